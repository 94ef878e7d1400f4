"""What holds the promise that nothing is lost and nobody let in: thousands of cases against a whole run."""
