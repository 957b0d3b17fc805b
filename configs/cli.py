"""Names that moved."""

from configs.files import CONFIGS, find_config, load_config, shipped_configs, to_yaml
from configs.parser import DEFAULT_CONFIG, parse, parse_command
from configs.requests import Command, Request, ScoreRequest, ShowRequest, WorkspaceRequest
from configs.values import with_values
