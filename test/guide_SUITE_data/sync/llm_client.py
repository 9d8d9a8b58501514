def generate_tokens(prompt):
    for token in prompt.split():
        yield token + " "
    if prompt == "":
        raise ValueError("empty prompt")
