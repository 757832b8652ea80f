"""Tiny real models with seeded random weights, made from configurations in a folder of the test: nothing is fetched."""

from pathlib import Path

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
LETTERS = tuple("abcdefghijklmnopqrstuvwxyz0123456789.:/-_äöüß日本語")
DIMENSION = 32
MAX_TOKENS = 48
PIXELS = 16


def tiny_text_model(folder: Path, *, seed: int = 0, prompts=None, similarity="cosine", normalize=True) -> Path:
    """A BERT of two layers and 32 dimensions with mean pooling, 48 tokens at most, one token a letter."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling

    transformer = _text_transformer(folder.parent / f"{folder.name}-transformers", seed)
    modules = [transformer, Pooling(DIMENSION, "mean"), *([Normalize()] if normalize else [])]
    model = SentenceTransformer(modules=modules, prompts=prompts, similarity_fn_name=similarity, device="cpu")
    model.save_pretrained(str(folder), create_model_card=False)
    return folder


def plain_transformers_model(folder: Path, *, seed: int = 0) -> Path:
    """The transformer of `tiny_text_model` as transformers saves it, without modules.json."""
    import torch
    from transformers import BertModel

    torch.manual_seed(seed)
    BertModel(_bert_config()).save_pretrained(folder)
    _tokenizer().save_pretrained(folder)
    return folder


def _bert_config(**others):
    from transformers import BertConfig

    return BertConfig(
        vocab_size=len(_vocabulary()),
        hidden_size=DIMENSION,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=MAX_TOKENS,
        **others,
    )


def two_tower_model(folder: Path, *, seed: int = 0) -> Path:
    """A text tower (as `tiny_text_model`) and a ViT of 16 x 16 pixels, a Router by modality, unit length."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Router, Transformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling
    from transformers import ViTConfig, ViTImageProcessorPil, ViTModel

    torch.manual_seed(seed)
    source = folder.parent / f"{folder.name}-vit"
    ViTModel(
        ViTConfig(
            hidden_size=DIMENSION,
            num_hidden_layers=1,
            num_attention_heads=4,
            intermediate_size=64,
            image_size=PIXELS,
            patch_size=8,
        )
    ).save_pretrained(source)
    ViTImageProcessorPil(size={"height": PIXELS, "width": PIXELS}).save_pretrained(source)
    text = _text_transformer(folder.parent / f"{folder.name}-text", seed)
    router = Router(
        {
            "text": [text, Pooling(DIMENSION, "mean")],
            "image": [Transformer(str(source)), Pooling(DIMENSION, "mean")],
        }
    )
    model = SentenceTransformer(modules=[router, Normalize()], device="cpu")
    model.save_pretrained(str(folder), create_model_card=False)
    return folder


def tiny_cross_encoder(folder: Path, *, seed: int = 0, labels: int = 1) -> Path:
    """A cross-encoder with the transformer of `tiny_text_model`."""
    import torch
    from sentence_transformers import CrossEncoder
    from transformers import BertForSequenceClassification

    torch.manual_seed(seed)
    source = folder.parent / f"{folder.name}-transformers"
    BertForSequenceClassification(_bert_config(num_labels=labels)).save_pretrained(source)
    _tokenizer().save_pretrained(source)
    CrossEncoder(str(source), device="cpu").save_pretrained(str(folder), create_model_card=False)
    return folder


def _text_transformer(source: Path, seed: int):
    from sentence_transformers.base.modules import Transformer

    return Transformer(str(plain_transformers_model(source, seed=seed)))


def _vocabulary() -> dict[str, int]:
    pieces = (*WORDS, *LETTERS, *(f"##{letter}" for letter in LETTERS))
    return {piece: i for i, piece in enumerate(pieces)}


def _tokenizer():
    from transformers import BertTokenizer

    return BertTokenizer(vocab=_vocabulary(), model_max_length=MAX_TOKENS)
