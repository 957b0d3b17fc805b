"""Seeds of what is drawn: the same on every machine, another for other parts."""

from autolora.problems.machine.draws import seed_of


def test_a_seed_is_the_same_on_every_machine() -> None:
    assert seed_of(3, "masks", 7, 0, 1) == 5827876155872280437


def test_other_parts_make_another_seed_and_all_of_them_are_seeds_of_torch() -> None:
    parts = [(seed, name, step) for seed in range(3) for name in ("a", "b", "1") for step in range(3)]
    found = {seed_of(*of) for of in parts}
    assert len(found) == len(parts)
    assert seed_of(1, 23) != seed_of(12, 3)
    assert seed_of(1, "2") != seed_of(1, 2)
    assert all(0 <= seed < 2**63 for seed in found)
