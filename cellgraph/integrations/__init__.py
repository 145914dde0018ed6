"""Integrations: networks of this library inside others. Each module is imported by name, none by this package.

``export``: ``torch.export`` and ONNX. ``estimator``: scikit-learn. ``graph``: PyTorch Geometric's ``Data``.
``huggingface``: a layer of transformers models.
"""
