"""Chat answers: how sure an answer is, where it goes, who is called for help, and how often that was right."""
