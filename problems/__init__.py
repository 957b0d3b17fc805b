"""What is learned and how: tasks, models, and the two problems of AutoLoRA with their
hypergradients."""
