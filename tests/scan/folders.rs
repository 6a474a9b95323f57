//! Every way a checkpoint may lie in a folder, and the ways it may not.

use expect_test::{Expect, expect};
use vramplan::scan::{Choices, MemoryFolder};

use super::common::{Entry, Gguf, bf16, index, safetensors};
use super::{message, order, read, scanned};

fn flux() -> Vec<Entry> {
    let block = |list: &str, n: u64| bf16(format!("{list}.{n}.attn.to_q.weight"), &[4, 4]);
    let mut entries = vec![bf16("x_embedder.weight", &[4])];
    entries.extend((0..3).map(|n| block("single_transformer_blocks", n)));
    entries.extend((0..2).map(|n| block("transformer_blocks", n)));
    entries
}

const FLUX: &str = r#"{"_class_name": "FluxTransformer2DModel"}"#;

fn refused(folder: &MemoryFolder, expected: Expect) {
    expected.assert_eq(&message(read(folder, None)));
}

#[test]
fn a_file_alone_is_named_after_itself_and_warned_about() {
    let folder = MemoryFolder::new().with("My-Flux.safetensors", safetensors(&flux()));
    let checkpoint = read(&folder, Some("My-Flux.safetensors")).unwrap();
    let scanned = checkpoint.manifest(&Choices::default()).unwrap();
    assert_eq!(scanned.manifest.model, "my-flux");
    assert_eq!(scanned.manifest.components[0].name, "model");
    assert_eq!(order(&scanned), "single_transformer_blocks*3 transformer_blocks*2");
    expect!["model: no class is known; its lists run as named: single_transformer_blocks, transformer_blocks (--order)"]
        .assert_eq(&scanned.warnings.join("\n"));
}

#[test]
fn a_component_folder_takes_its_order_from_its_class() {
    let folder = MemoryFolder::new()
        .with("config.json", FLUX)
        .with("diffusion_pytorch_model.safetensors", safetensors(&flux()));
    let scanned = scanned(&folder, &Choices::default());
    assert_eq!(scanned.manifest.model, "tiny-model");
    assert_eq!(scanned.manifest.components[0].name, "transformer");
    assert_eq!(order(&scanned), "transformer_blocks*2 single_transformer_blocks*3");
    assert!(scanned.warnings.is_empty(), "{:?}", scanned.warnings);
}

#[test]
fn shards_folder_and_index_give_the_same_manifest() {
    let entries = flux();
    let name = |n| format!("model-0000{n}-of-00002.safetensors");
    let placed: Vec<(&str, String)> =
        entries.iter().enumerate().map(|(n, e)| (e.0.as_str(), name(n % 2 + 1))).collect();
    let placed: Vec<(&str, &str)> = placed.iter().map(|(t, s)| (*t, s.as_str())).collect();
    let (even, odd): (Vec<_>, Vec<_>) =
        entries.iter().cloned().enumerate().partition(|(n, _)| n % 2 == 0);
    let shard =
        |part: Vec<(usize, Entry)>| safetensors(&part.into_iter().map(|p| p.1).collect::<Vec<_>>());
    let sharded = MemoryFolder::new()
        .with("config.json", FLUX)
        .with("model.safetensors.index.json", index(&placed))
        .with(&name(1), shard(even))
        .with(&name(2), shard(odd));
    let whole = MemoryFolder::new()
        .with("config.json", FLUX)
        .with("model.safetensors", safetensors(&entries));
    let expected = scanned(&whole, &Choices::default()).manifest;
    assert_eq!(scanned(&sharded, &Choices::default()).manifest, expected);
    let by_index = read(&sharded, Some("model.safetensors.index.json")).unwrap();
    assert_eq!(by_index.manifest(&Choices::default()).unwrap().manifest, expected);
    let one = read(&sharded, Some("model-00001-of-00002.safetensors")).unwrap();
    assert_eq!(
        one.warnings,
        [
            "model-00001-of-00002.safetensors is one shard of several; scan its index or folder for all of it"
        ]
    );
}

#[test]
fn an_index_that_leaves_its_folder_is_refused() {
    for shard in [
        "../a.safetensors",
        "/etc/a.safetensors",
        "a\\b.safetensors",
        "b/../../a.safetensors",
        "./a.safetensors",
        "C:a.safetensors",
        "",
    ] {
        let folder =
            MemoryFolder::new().with("model.safetensors.index.json", index(&[("t", shard)]));
        let text = message(read(&folder, None));
        assert!(
            text.ends_with("expected a file of the index's own folder, by a plain relative path"),
            "{text}"
        );
    }
    let folder = MemoryFolder::new().with("model.safetensors.index.json", index(&[("t", "a.bin")]));
    refused(
        &folder,
        expect![[
            r#"model.safetensors.index.json: weight_map tensor "t": found file "a.bin", expected a .safetensors file"#
        ]],
    );
}

#[test]
fn an_index_and_its_shards_must_agree() {
    let with = |placed: &[(&str, &str)]| {
        MemoryFolder::new()
            .with("model.safetensors.index.json", index(placed))
            .with("a.safetensors", safetensors(&[bf16("x", &[1]), bf16("both", &[1])]))
            .with("b.safetensors", safetensors(&[bf16("y", &[1]), bf16("both", &[1])]))
    };
    refused(
        &with(&[("x", "a.safetensors"), ("z", "c.safetensors"), ("y", "d.safetensors")]),
        expect![[r#"
        model.safetensors.index.json: 2 problems
          weight_map: found file "c.safetensors", which is not there, expected a file of the index's own folder
          weight_map: found file "d.safetensors", which is not there, expected a file of the index's own folder"#]],
    );
    refused(
        &with(&[("x", "b.safetensors"), ("lost", "a.safetensors"), ("both", "a.safetensors")]),
        expect![[r#"
            model.safetensors.index.json: 5 problems
              tensor "y": found it in "b.safetensors", expected a line in weight_map
              tensor "both": found it in "a.safetensors" and in "b.safetensors", expected one shard that holds it
              tensor "both": found it in "b.safetensors", expected "a.safetensors", as weight_map says
              tensor "lost": found no shard that holds it, expected "a.safetensors"
              tensor "x": found it in "a.safetensors", expected "b.safetensors", as weight_map says"#]],
    );
    refused(
        &MemoryFolder::new()
            .with("model.safetensors.index.json", r#"{"weight_map": {"a": "x", "a": "y"}}"#),
        expect![[
            r#"model.safetensors.index.json: line 1 column 29: found key "a" a second time, expected every key once"#
        ]],
    );
    refused(
        &MemoryFolder::new().with("model.safetensors.index.json", "{}"),
        expect![
            "model.safetensors.index.json: line 1 column 2: found missing field `weight_map`, expected valid JSON of this format"
        ],
    );
}

#[test]
fn tied_tensors_are_counted_once() {
    let config = |tied| {
        format!(r#"{{"architectures": ["Qwen3ForCausalLM"], "tie_word_embeddings": {tied}}}"#)
    };
    let tensors = [
        bf16("lm_head.weight", &[9, 4]),
        bf16("model.embed_tokens.weight", &[9, 4]),
        bf16("model.layers.0.mlp.up.weight", &[4]),
        bf16("model.layers.1.mlp.up.weight", &[4]),
    ];
    let scan = |tied: bool| {
        let folder = MemoryFolder::new()
            .with("config.json", config(tied))
            .with("model.safetensors", safetensors(&tensors));
        scanned(&folder, &Choices::default())
    };
    let bytes = |tied| {
        let scanned = scan(tied);
        scanned.manifest.components[0].total_bytes(&scanned.manifest).get()
    };
    assert_eq!((bytes(true), bytes(false)), (72 + 16, 144 + 16));
    assert_eq!(scan(true).tied["model"], ["lm_head.weight"]);
    let t5 = [bf16("shared.weight", &[9, 4]), bf16("encoder.embed_tokens.weight", &[9, 4])];
    let folder = MemoryFolder::new()
        .with("config.json", r#"{"architectures": ["T5EncoderModel"]}"#)
        .with("model.safetensors", safetensors(&t5));
    let found = scanned(&folder, &Choices::default());
    assert_eq!(found.tied["text_encoder"], ["encoder.embed_tokens.weight"]);
    let json = r#"{"b":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"a":{"dtype":"I8","shape":[4],"data_offsets":[0,4]}}"#;
    let same = [super::common::with_length(json), vec![0; 4]].concat();
    let found = scanned(&MemoryFolder::new().with("model.safetensors", same), &Choices::default());
    assert_eq!(
        (found.tied["model"].join(" ").as_str(), found.manifest.components[0].root.bytes().get()),
        ("b", 4)
    );
}

fn pipeline() -> MemoryFolder {
    let index = r#"{"_class_name": "FluxPipeline", "_diffusers_version": "0.36.0", "boundary": 0.5,
        "vae": ["diffusers", "AutoencoderKL"], "scheduler": ["diffusers", "FlowMatchScheduler"],
        "image_encoder": [null, null], "tokenizer": ["transformers", "CLIPTokenizer"],
        "transformer": ["diffusers", "FluxTransformer2DModel"]}"#;
    MemoryFolder::new()
        .with("model_index.json", index)
        .with("tokenizer/vocab.json", "{}")
        .with("vae/config.json", r#"{"_class_name": "AutoencoderKL"}"#)
        .with(
            "vae/diffusion_pytorch_model.safetensors",
            safetensors(&[bf16("encoder.conv_in.weight", &[8])]),
        )
}

#[test]
fn a_pipeline_has_its_components_in_its_order() {
    let folder = pipeline()
        .with("transformer/config.json", FLUX)
        .with("transformer/diffusion_pytorch_model.safetensors", safetensors(&flux()));
    let scanned = scanned(&folder, &Choices::default());
    let names: Vec<&str> = scanned.manifest.components.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names, ["vae", "transformer"]);
    assert_eq!(scanned.manifest.pipeline.as_deref(), Some("FluxPipeline"));
    assert!(scanned.warnings.is_empty());
}

#[test]
fn a_pipeline_without_a_components_weights_is_refused() {
    refused(
        &pipeline(),
        expect![[
            r#"model_index.json: "transformer": found no folder "transformer", expected the weights of diffusers.FluxTransformer2DModel"#
        ]],
    );
    refused(
        &pipeline().with("transformer/x.bin", ""),
        expect![[
            r#"model_index.json: "transformer": found pickled weights only, expected the weights of diffusers.FluxTransformer2DModel"#
        ]],
    );
    let escape = r#"{"_class_name": "X", "../up": ["diffusers", "Y"]}"#;
    refused(
        &MemoryFolder::new().with("model_index.json", escape),
        expect![[
            r#"model_index.json: "../up": found a name that is no plain folder, expected a component's folder"#
        ]],
    );
    refused(
        &MemoryFolder::new().with("model_index.json", "{}"),
        expect![
            "model_index.json: document: found no component, expected entries [library, class] whose folders hold weights"
        ],
    );
}

#[test]
fn one_variant_is_taken_and_several_are_not() {
    let file = || safetensors(&flux());
    let one = MemoryFolder::new()
        .with("config.json", FLUX)
        .with("diffusion_pytorch_model.fp16.safetensors", file());
    assert_eq!(
        scanned(&one, &Choices::default()).warnings,
        [": read diffusion_pytorch_model.fp16.safetensors, the only checkpoint there"]
    );
    let two = one.clone().with("diffusion_pytorch_model.fp8.safetensors", file());
    refused(
        &two,
        expect![
            ": folder: found several checkpoints (diffusion_pytorch_model.fp16.safetensors, diffusion_pytorch_model.fp8.safetensors), expected model_index.json, one .safetensors file or index, or one .gguf file"
        ],
    );
    let plain = two.with("diffusion_pytorch_model.safetensors", file());
    assert_eq!(
        scanned(&plain, &Choices::default()).warnings,
        [": read diffusion_pytorch_model.safetensors, not its 2 other checkpoints"]
    );
}

#[test]
fn gguf_is_known_by_its_name_or_its_magic() {
    for name in ["Tiny.Q4.gguf", "sha256-abc"] {
        let folder = MemoryFolder::new().with(name, Gguf::sound().bytes());
        let scanned = read(&folder, Some(name)).unwrap().manifest(&Choices::default()).unwrap();
        assert_eq!(scanned.manifest.components[0].class.as_deref(), Some("llama"));
        assert_eq!(order(&scanned), "blk*2");
        assert!(scanned.warnings.is_empty());
    }
    let mut split = Gguf::sound();
    split.values.push(super::common::value("split.count", 2, &3u16.to_le_bytes()));
    let folder = MemoryFolder::new().with("a.gguf", split.bytes());
    refused(
        &folder,
        expect![
            "a.gguf: split.count: found one of 3 split files, expected a whole file; merge them first"
        ],
    );
}

#[test]
fn what_is_no_checkpoint_is_refused() {
    let folder = MemoryFolder::new().with("notes.txt", "x").with("a.ckpt", "x");
    for (file, found) in [("notes.txt", "a file of another format"), ("a.ckpt", "pickled weights")]
    {
        assert!(message(read(&folder, Some(file))).contains(found));
    }
    assert!(
        message(read(&folder, Some("gone.safetensors"))).contains("cannot read gone.safetensors")
    );
    refused(
        &folder,
        expect![
            ": folder: found pickled weights only, expected model_index.json, one .safetensors file or index, or one .gguf file"
        ],
    );
}
