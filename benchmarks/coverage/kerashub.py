"""Models of KerasHub, small and with random weights: what people take as the body of a model of their own.

KerasHub is imported as a case is built: it is installed by `make coverage-table` and by nothing else.
"""

from typing import Any

from benchmarks.coverage.case import Input, cases

IMAGE, WORDS = Input((64, 64, 3)), 50
TOKENS, MASK = Input((None,), "int32", WORDS), Input((None,), "int32", 2)
SPECTROGRAM, AUDIO = Input((20, 16)), Input((800, 1))


def _models() -> Any:
    import keras_hub

    return keras_hub.models


def _resnet(size: int | None = 64) -> Any:
    return _models().ResNetBackbone(
        **{"input_conv_filters": [64], "input_conv_kernel_sizes": [7], "block_type": "basic_block"},
        **{"stackwise_num_filters": [64, 16, 32, 32], "stackwise_num_blocks": [1] * 4},
        **{"stackwise_num_strides": [1, 2, 2, 2], "image_shape": (size, size, 3)},
    )


def _mit() -> Any:
    return _models().MiTBackbone(
        **{"layerwise_depths": [1] * 4, "num_layers": 4, "layerwise_num_heads": [1, 2, 4, 4]},
        **{"layerwise_sr_ratios": [8, 4, 2, 1], "max_drop_path_rate": 0.1, "image_shape": (64, 64, 3)},
        **{"layerwise_patch_sizes": [7, 3, 3, 3], "layerwise_strides": [4, 2, 2, 2], "hidden_dims": [8, 16, 32, 64]},
    )


def _resnet_classifier(x: Any) -> Any:
    return _models().ResNetImageClassifier(_resnet(), num_classes=5)(x)


def _efficientnet(x: Any) -> Any:
    return _models().EfficientNetBackbone(
        **{"stackwise_width_coefficients": [1.0] * 3, "stackwise_depth_coefficients": [1.0] * 3},
        **{"stackwise_kernel_sizes": [3, 3, 5], "stackwise_num_repeats": [1, 2, 1]},
        **{"stackwise_input_filters": [8, 8, 16], "stackwise_output_filters": [8, 16, 24]},
        **{"stackwise_expansion_ratios": [1, 4, 4], "stackwise_strides": [1, 2, 2]},
        **{"stackwise_squeeze_and_excite_ratios": [0.25] * 3, "stackwise_block_types": ["v1"] * 3},
        **{"image_shape": (64, 64, 3)},
    )(x)


def _vit_classifier(x: Any) -> Any:
    options = {"patch_size": (16, 16), "num_layers": 2, "num_heads": 2, "hidden_dim": 16, "mlp_dim": 32}
    return _models().ViTImageClassifier(_models().ViTBackbone(image_shape=(64, 64, 3), **options), num_classes=5)(x)


def _transformer(name: str) -> Any:
    sizes = {"vocabulary_size": WORDS, "num_layers": 2, "num_heads": 2, "hidden_dim": 16, "intermediate_dim": 32}
    return getattr(_models(), name)(**sizes, max_sequence_length=32)


def _bert(tokens: Any, mask: Any, segments: Any) -> Any:
    return _transformer("BertBackbone")({"token_ids": tokens, "padding_mask": mask, "segment_ids": segments})


def _gemma(tokens: Any, mask: Any) -> Any:
    return _models().GemmaBackbone(
        **{"vocabulary_size": WORDS, "num_layers": 2, "num_query_heads": 2, "num_key_value_heads": 1},
        **{"hidden_dim": 16, "intermediate_dim": 32, "head_dim": 8},
    )({"token_ids": tokens, "padding_mask": mask})


def _masked(name: str) -> Any:
    return lambda tokens, mask: _transformer(name)({"token_ids": tokens, "padding_mask": mask})


def _whisper(spectrogram: Any, tokens: Any, mask: Any) -> Any:
    found = _models().WhisperBackbone(
        **{"vocabulary_size": WORDS, "num_layers": 2, "num_heads": 2, "hidden_dim": 16, "intermediate_dim": 32},
        **{"num_mels": 16, "max_encoder_sequence_length": 20, "max_decoder_sequence_length": 16},
    )({"encoder_features": spectrogram, "decoder_token_ids": tokens, "decoder_padding_mask": mask})
    return [found["encoder_sequence_output"], found["decoder_sequence_output"]]


def _segformer(x: Any) -> Any:
    backbone = _models().SegFormerBackbone(image_encoder=_mit(), projection_filters=16)
    return _models().SegFormerImageSegmenter(backbone, num_classes=4)(x)


def _deeplab(x: Any) -> Any:
    backbone = _models().DeepLabV3Backbone(
        **{"image_encoder": _resnet(), "low_level_feature_key": "P2", "spatial_pyramid_pooling_key": "P5"},
        **{"upsampling_size": 8, "dilation_rates": [2, 3, 4], "image_shape": (64, 64, 3)},
    )
    return _models().DeepLabV3ImageSegmenter(backbone, num_classes=4)(x)


def _retinanet(x: Any) -> Any:
    backbone = _models().RetinaNetBackbone(
        **{"image_encoder": _resnet(), "min_level": 3, "max_level": 5, "use_p5": False, "image_shape": (64, 64, 3)}
    )
    return list(_models().RetinaNetObjectDetector(backbone, num_classes=4)(x).values())


def _dfine(x: Any) -> Any:
    encoder = _models().HGNetV2Backbone(
        **{"stem_channels": [3, 8, 8], "depths": [1, 1, 2, 1], "hidden_sizes": [16, 32, 64, 64], "embedding_size": 8},
        **{
            "stackwise_stage_filters": [
                [8, 8, 16, 1, 3, 3],
                [16, 8, 32, 1, 3, 3],
                [32, 8, 64, 2, 3, 5],
                [64, 64, 64, 1, 3, 5],
            ]
        },
        **{"apply_downsample": [False, True, True, True], "use_lightweight_conv_block": [False, False, True, True]},
        **{"use_learnable_affine_block": True, "hidden_act": "relu", "image_shape": (128, 128, 3)},
        **{"out_features": ["stage3", "stage4"]},
    )
    backbone = _models().DFineBackbone(
        **{"backbone": encoder, "decoder_in_channels": [32, 32], "encoder_hidden_dim": 32, "num_denoising": 0},
        **{"num_labels": 4, "hidden_dim": 32, "learn_initial_query": False, "num_queries": 10, "seed": 0},
        **{"anchor_image_size": (128, 128), "feat_strides": [16, 32], "num_feature_levels": 2},
        **{"encoder_in_channels": [64, 64], "encode_proj_layers": [1], "num_attention_heads": 4},
        **{"encoder_ffn_dim": 64, "num_encoder_layers": 1, "hidden_expansion": 0.34, "depth_multiplier": 0.5},
        **{"eval_idx": -1, "num_decoder_layers": 2, "decoder_attention_heads": 4, "decoder_ffn_dim": 64},
        **{"decoder_n_points": [3, 3], "lqe_hidden_dim": 16, "num_lqe_layers": 2},
        **{"out_features": ["stage3", "stage4"], "image_shape": (128, 128, 3)},
    )
    found = _models().DFineObjectDetector(backbone, num_classes=4, bounding_box_format="yxyx")(x)
    return [found["logits"], found["pred_boxes"]]


KERASHUB = cases(
    "KerasHub model",
    IMAGE,
    (
        ("ResNet, image classifier", _resnet_classifier),
        ("EfficientNet", _efficientnet),
        ("ViT, image classifier", _vit_classifier),
        ("MiT", lambda x: _mit()(x)),
        ("BERT", _bert, (TOKENS, MASK, Input((None,), "int32", 2))),
        ("DistilBERT", _masked("DistilBertBackbone"), (TOKENS, MASK)),
        ("RoBERTa", _masked("RobertaBackbone"), (TOKENS, MASK)),
        ("GPT-2", _masked("GPT2Backbone"), (TOKENS, MASK)),
        ("Gemma", _gemma, (TOKENS, MASK)),
        ("Whisper, audio encoder and decoder", _whisper, (SPECTROGRAM, TOKENS, MASK)),
        ("SegFormer, image segmenter", _segformer),
        ("DeepLabV3, image segmenter", _deeplab),
        ("RetinaNet, object detector", _retinanet),
        ("D-FINE, object detector", _dfine, Input((128, 128, 3))),
    ),
)
