"""Reports: a study, comparison, confirmation or sweep as one HTML file, as images, as text."""
