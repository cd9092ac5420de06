"""Small random models of many families, as folders in Hugging Face layout: real architectures, no download.

Weights are drawn with a large spread, so that the next tokens differ and greedy decoding wanders.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import sentencepiece
import torch
import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

CORPUS = (
    "The quick brown fox jumps over the lazy dog. 3 3 a ,b don't stop!",
    "def run(x):\n    return x + 1\n\nprint(run(41))  # 42",
    "héllo wörld, naïve café; Grüße aus Köln",
    "한국어 텍스트 그리고 こんにちは世界 你好",
    "😀 👩‍👩‍👧‍👦 🇫🇷 e\u0301 a\u030a",
)

UNICODE_CORPUS = (
    "😀😀 ",
    "👩‍👩‍👧‍👦 family",
    "🇫🇷🇩🇪🇯🇵",
    "한국어 텍스트",
    "こんにちは世界",
    "e\u0301 a\u030a\u0323 combining",
    "العربية עברית",
    "नमस्ते ไทย",
    "a ,b  3 3\n\nnext line\tTab",
    "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𓀀",
    "don't, can't; I'm — “quoted”…",
    "averyveryverylongwordwithoutanyspaces_and_code(x)[0]{y:1}",
    "\ufffd a true replacement character \ufffd",
    "\u200bzero\u200dwidth\ufeff",
)

SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def bpe_tokenizer(vocab_size: int = 384) -> Any:
    """Byte-level BPE, as GPT-2, Llama 3 and Qwen have; its end token is id 0."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIALS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS * 4, trainer)
    return make_tokenizer(
        tokenizer_object=tokenizer, eos_token=SPECIALS[0], pad_token=SPECIALS[0], chat_template=TEMPLATE
    )


def sentencepiece_tokenizer(vocab_size: int = 420) -> Any:
    """Llama 2's kind: a SentencePiece BPE with byte fallback, its pieces and merges in a Rust tokenizer."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=_lines(),
        model_writer=model,
        vocab_size=vocab_size,
        model_type="bpe",
        byte_fallback=True,
        character_coverage=0.98,
        unk_id=0,
        bos_id=1,
        eos_id=2,
        pad_id=-1,
        minloglevel=2,
    )
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    pieces = [processor.id_to_piece(index) for index in range(processor.get_piece_size())]
    vocab = {piece: index for index, piece in enumerate(pieces)}
    tokenizer = Tokenizer(
        models.BPE(vocab, _merges(pieces, vocab), unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens([AddedToken(piece, special=True, normalized=False) for piece in pieces[:3]])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", vocab["<s>"])])
    return make_tokenizer(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def unigram_tokenizer() -> Any:
    """T5's kind: pieces with scores, and the control tokens are such pieces too, which a text may be cut into."""
    controls = [("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0)]
    characters = sorted({character for text in CORPUS for character in text if character != " "} | {"▁"})
    tokenizer = Tokenizer(models.Unigram([*controls, *((one, -5.0) for one in characters), ("▁the", -3.0)], unk_id=0))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    tokenizer.add_special_tokens([AddedToken(piece, special=True, normalized=False) for piece, _ in controls])
    return make_tokenizer(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


# Typed as Any, for transformers' own classes are only partly typed.
make_tokenizer: Any = transformers.PreTrainedTokenizerFast
make_generation_config: Any = transformers.GenerationConfig
make_model: Any = transformers.AutoModelForCausalLM.from_config
make_bert: Any = transformers.BertModel
make_bert_config: Any = transformers.BertConfig
make_bert_tokenizer: Any = transformers.BertTokenizer


def _lines() -> Iterator[str]:
    for text in CORPUS * 4:
        yield from text.splitlines()


def _merges(pieces: list[str], vocab: dict[str, int]) -> list[tuple[str, str]]:
    """Every way to make a piece of two others, in the order of the pieces' ids, which is their rank."""
    return [
        (piece[:cut], piece[cut:])
        for piece in pieces[259:]
        for cut in range(1, len(piece))
        if piece[:cut] in vocab and piece[cut:] in vocab
    ]


def llama_like(**more: Any) -> dict[str, Any]:
    shape = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "bos_token_id": None,
        "eos_token_id": 0,
        "pad_token_id": 0,
        "initializer_range": 0.4,
    }
    return shape | more


FAMILIES: dict[str, Callable[[int], Any]] = {
    "gpt2": lambda vocab: transformers.GPT2Config(
        vocab_size=vocab,
        n_embd=32,
        n_layer=2,
        n_head=4,
        n_positions=512,
        bos_token_id=0,
        eos_token_id=0,
        initializer_range=0.4,
    ),
    "llama": lambda vocab: transformers.LlamaConfig(vocab_size=vocab, **llama_like()),
    "qwen2": lambda vocab: transformers.Qwen2Config(vocab_size=vocab, **llama_like(tie_word_embeddings=True)),
    "qwen3": lambda vocab: transformers.Qwen3Config(vocab_size=vocab, **llama_like(head_dim=16)),
    "gemma3": lambda vocab: transformers.Gemma3TextConfig(
        vocab_size=vocab,
        **llama_like(
            num_hidden_layers=3,
            head_dim=8,
            query_pre_attn_scalar=8,
            sliding_window=24,
            tie_word_embeddings=False,
            layer_types=["sliding_attention", "full_attention", "sliding_attention"],
        ),
    ),
    "mixtral": lambda vocab: transformers.MixtralConfig(
        vocab_size=vocab, **llama_like(num_local_experts=4, num_experts_per_tok=2, sliding_window=None)
    ),
}


def save_model(folder: Path, family: str, tokenizer: Any | None = None, *, end_ids: int | list[int] = 0) -> Path:
    """Write a random model of the family with its tokenizer, and return the folder."""
    tokenizer = tokenizer or bpe_tokenizer()
    return save_config(folder, FAMILIES[family](len(tokenizer)), tokenizer, seed=sum(family.encode()), end_ids=end_ids)


def save_config(
    folder: Path, config: Any, tokenizer: Any, *, seed: int = 0, end_ids: int | list[int] = 0, vectors: float = 0.0
) -> Path:
    """Write a random model of a config with a tokenizer, and return the folder.

    Args:
        vectors: how far biases and norm weights stray from the zeros and ones that they start as.
    """
    state = torch.random.get_rng_state()
    try:
        torch.manual_seed(seed)
        model = make_model(config)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() == 1:
                    parameter.add_(torch.randn_like(parameter) * vectors)
    finally:
        torch.random.set_rng_state(state)
    model.generation_config = make_generation_config(eos_token_id=end_ids, pad_token_id=0, do_sample=False)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_sentence_model(folder: Path) -> Path:
    """Write a random sentence model in sentence-transformers' layout; letters are its words, 12 tokens its limit."""
    config = make_bert_config(
        vocab_size=60,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=40,
        initializer_range=0.3,
    )
    state = torch.random.get_rng_state()
    try:
        torch.manual_seed(0)
        make_bert(config).save_pretrained(folder)
    finally:
        torch.random.set_rng_state(state)
    vocab = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(chr(97 + index) for index in range(26))]
    vocab += [f"##{letter}" for letter in vocab[5:]]
    make_bert_tokenizer(vocab={token: index for index, token in enumerate(vocab)}).save_pretrained(folder)
    save_modules(folder, Pooling={"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True}, Normalize={})
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 12}))
    return folder


def save_modules(folder: Path, **configs: dict[str, Any]) -> None:
    """Write which parts follow the Transformer of a sentence model, each with its config; without weights."""
    paths = {"Transformer": ""} | {kind: f"{index}_{kind}" for index, kind in enumerate(configs, 1)}
    kinds = [
        {"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for index, (kind, path) in enumerate(paths.items())
    ]
    (folder / "modules.json").write_text(json.dumps(kinds))
    for kind, config in configs.items():
        (folder / paths[kind]).mkdir(exist_ok=True)
        (folder / paths[kind] / "config.json").write_text(json.dumps(config))
