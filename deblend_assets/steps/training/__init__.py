"""Steps of the trainings."""
