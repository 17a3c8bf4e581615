"""The model folder that every front is measured with: a byte-level BPE learnt here, a chat template, no weights."""

import json
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

ROOT = Path(__file__).parents[3]
CONTEXT_TOKENS = 32_768
_SPECIALS = ["<|begin|>", "<|end|>", "<|pad|>", "<|im_start|>", "<|im_end|>"]
_ADDED = {"special": True, **dict.fromkeys(("lstrip", "rstrip", "normalized", "single_word"), False)}
_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def write_model(folder: Path) -> None:
    """Write a Hugging Face folder of a Llama without weights; its tokenizer is learnt from this project's texts."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = _tokenizer()
    tokenizer.save(str(folder / "tokenizer.json"))
    ids = {token: tokenizer.token_to_id(token) for token in _SPECIALS}
    _write(
        folder / "config.json",
        {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 16,
            "vocab_size": tokenizer.get_vocab_size(),
            "max_position_embeddings": CONTEXT_TOKENS,
            "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0,
            "tie_word_embeddings": True,
            "bos_token_id": ids["<|begin|>"],
            "eos_token_id": ids["<|im_end|>"],
            "torch_dtype": "bfloat16",
            "hidden_act": "silu",
        },
    )
    _write(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": "<|begin|>",
            "eos_token": "<|im_end|>",
            "model_max_length": CONTEXT_TOKENS,
            "chat_template": _TEMPLATE,
            "added_tokens_decoder": {str(i): {"content": token, **_ADDED} for token, i in ids.items()},
        },
    )
    _write(folder / "generation_config.json", {"bos_token_id": ids["<|begin|>"], "eos_token_id": [ids["<|im_end|>"]]})


def _tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=16_000,
        special_tokens=_SPECIALS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    sources = sorted([*ROOT.glob("docs/*.md"), *ROOT.glob("server/**/*.py"), *ROOT.glob("compat/**/*.py")])
    tokenizer.train_from_iterator((path.read_text() for path in sources), trainer)
    return tokenizer


def _write(path: Path, content: dict[str, object]) -> None:
    path.write_text(json.dumps(content, indent=1))
