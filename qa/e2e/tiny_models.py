"""Random models small enough to load in seconds on a CPU: what vLLM does beside generating needs some of each kind.

All speak the vocabulary of the sample model; their weights are drawn from a fixed seed, so that they repeat themselves.
"""

# ruff: noqa: PLC0415  torch and transformers take seconds to import, and are there only where vLLM is
import json
import shutil
from pathlib import Path

SAMPLE = Path(__file__).parents[2] / "model_repository" / "tiny_chat" / "1" / "tiny_chat"
IMAGE_TOKEN = "<|assistant|>"  # any special token of the sample's vocabulary does; nothing else stands for an image


def lora(folder: Path, seed: int = 1, rank: int = 8) -> Path:
    """Write an adapter of the sample model that changes what it says."""
    import torch
    from safetensors.torch import save_file

    config = json.loads((SAMPLE / "config.json").read_text())
    width, head = config["hidden_size"], config["head_dim"]
    outputs = {"q_proj": config["num_attention_heads"] * head, "v_proj": config["num_key_value_heads"] * head}
    torch.manual_seed(seed)
    tensors = {}
    for layer in range(config["num_hidden_layers"]):
        for name, out in outputs.items():
            prefix = f"base_model.model.model.layers.{layer}.self_attn.{name}"
            tensors[f"{prefix}.lora_A.weight"] = torch.randn(rank, width) * 0.3
            tensors[f"{prefix}.lora_B.weight"] = torch.randn(out, rank) * 0.3
    folder.mkdir(parents=True)
    save_file(tensors, folder / "adapter_model.safetensors")
    description = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": rank,
        "lora_alpha": 2 * rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": list(outputs),
        "base_model_name_or_path": "tiny_chat",
    }
    (folder / "adapter_config.json").write_text(json.dumps(description))
    return folder


def bert(folder: Path, labels: int = 0) -> Path:
    """Write a BERT: an embedding model, or with labels a classifier; with one label it scores pairs."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertModel

    torch.manual_seed(2)
    config = BertConfig(
        vocab_size=1024,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=128,
        max_position_embeddings=512,
        initializer_range=0.3,
        **({"num_labels": labels} if labels else {}),
    )
    model = BertForSequenceClassification(config) if labels else BertModel(config)
    return _save(model, folder)


def vision(folder: Path) -> Path:
    """Write a LLaVA: a CLIP tower of four patches before a Llama."""
    import torch
    from safetensors.torch import load_file, save_file
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    torch.manual_seed(3)
    text = LlamaConfig(
        vocab_size=1024,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=1024,
        initializer_range=0.3,
    )
    tower = CLIPVisionConfig(
        hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2, image_size=32, patch_size=16
    )
    config = LlavaConfig(
        vision_config=tower, text_config=text, image_token_index=image_token(), vision_feature_layer=-1
    )
    _save(LlavaForConditionalGeneration(config), folder)
    # vLLM reads the tower's weights by the names that transformers gave them before 5.
    weights = load_file(folder / "model.safetensors")
    renamed = {name.replace("vision_tower.", "vision_tower.vision_model."): data for name, data in weights.items()}
    save_file(renamed, folder / "model.safetensors", metadata={"format": "pt"})
    image = {
        "image_processor_type": "CLIPImageProcessor",
        "size": {"shortest_edge": 32},
        "crop_size": {"height": 32, "width": 32},
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(image))
    processor = {
        "processor_class": "LlavaProcessor",
        "patch_size": 16,
        "vision_feature_select_strategy": "default",
        "num_additional_image_tokens": 1,
        "image_token": IMAGE_TOKEN,
    }
    (folder / "processor_config.json").write_text(json.dumps(processor))
    return folder


def image_token() -> int:
    """Return the token that stands for an image in the prompts of `vision`."""
    added = json.loads((SAMPLE / "tokenizer.json").read_text())["added_tokens"]
    return next(token["id"] for token in added if token["content"] == IMAGE_TOKEN)


def _save(model, folder: Path) -> Path:
    model.eval().save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(SAMPLE / name, folder)
    return folder
