//! Names become block lists, classes give their order, and choices beat both.

use expect_test::expect;
use proptest::prelude::*;
use vramplan::model::graph;
use vramplan::scan::{Choices, MemoryFolder, Scanned, Summary};

use super::common::{Entry, bf16, safetensors};
use super::{order, read, scanned};

fn model(class: &str, entries: &[Entry]) -> MemoryFolder {
    let config = format!(r#"{{"_class_name": {class:?}}}"#);
    MemoryFolder::new().with("config.json", config).with("model.safetensors", safetensors(entries))
}

fn named(names: &[&str]) -> Vec<Entry> {
    names.iter().map(|name| bf16(*name, &[2])).collect()
}

fn scan(class: &str, names: &[&str]) -> Scanned {
    scanned(&model(class, &named(names)), &Choices::default())
}

#[test]
fn chains_of_single_operations_are_no_lists() {
    let found = scan(
        "X",
        &[
            "cap_embedder.0.weight",
            "cap_embedder.1.weight",
            "t_embedder.mlp.0.weight",
            "t_embedder.mlp.2.weight",
            "net.0.proj.weight",
            "net.2.proj.weight",
            "layers.0.attn.to_out.0.weight",
            "layers.1.attn.to_out.0.weight",
            "one.0.a.weight",
            "lead.00.a.weight",
            "lead.01.a.weight",
            "0.a.weight",
            "1.a.weight",
        ],
    );
    assert_eq!(order(&found), "layers*2");
}

#[test]
fn the_outermost_list_wins() {
    let names: Vec<String> = (0..12)
        .flat_map(|b| (0..2).map(move |l| format!("encoder.block.{b}.layer.{l}.q.weight")))
        .collect();
    let found = scan("T5EncoderModel", &names.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(order(&found), "encoder.block*12");
    let tensors = found.manifest.kinds["block"].weights.tensors();
    assert_eq!(
        tensors.iter().map(|t| t.name()).collect::<Vec<_>>(),
        ["layer.0.q.weight", "layer.1.q.weight"]
    );
}

#[test]
fn a_named_list_with_a_gap_is_root_and_said_to_be() {
    let found = scan("WanTransformer3DModel", &["blocks.0.a.w", "blocks.2.a.w"]);
    assert_eq!(order(&found), "");
    assert_eq!(found.warnings, ["transformer: blocks of blocks are missing; it counts as root"]);
    assert_eq!(order(&scan("WanTransformer3DModel", &["blocks.0.w"])), "blocks*1");
}

#[test]
fn every_class_runs_in_its_order() {
    let blocks = |lists: &[&str]| -> Vec<String> {
        lists.iter().flat_map(|list| (0..2).map(move |n| format!("{list}.{n}.a.w"))).collect()
    };
    let cases: &[(&str, &[&str], &str)] = &[
        (
            "ZImageTransformer2DModel",
            &["context_refiner", "layers", "noise_refiner"],
            "noise_refiner*2 context_refiner*2 layers*2",
        ),
        (
            "Lumina2Transformer2DModel",
            &["context_refiner", "layers", "noise_refiner"],
            "context_refiner*2 noise_refiner*2 layers*2",
        ),
        (
            "HunyuanVideoTransformer3DModel",
            &[
                "single_transformer_blocks",
                "transformer_blocks",
                "context_embedder.token_refiner.refiner_blocks",
            ],
            "context_embedder.token_refiner.refiner_blocks*2 transformer_blocks*2 single_transformer_blocks*2",
        ),
        (
            "Qwen2_5_VLForConditionalGeneration",
            &["model.language_model.layers", "model.visual.blocks"],
            "model.visual.blocks*2 model.language_model.layers*2",
        ),
        (
            "AutoencoderKL",
            &["decoder.up_blocks", "encoder.down_blocks"],
            "encoder.down_blocks*2 decoder.up_blocks*2",
        ),
        ("CLIPTextModel", &["text_model.encoder.layers"], "text_model.encoder.layers*2"),
        ("GPT2LMHeadModel", &["transformer.h"], "transformer.h*2"),
        ("MixtralForCausalLM", &["model.layers"], "model.layers*2"),
        ("LTXVideoTransformer3DModel", &["transformer_blocks"], "transformer_blocks*2"),
        ("SD3Transformer2DModel", &["transformer_blocks"], "transformer_blocks*2"),
        ("MochiTransformer3DModel", &["transformer_blocks"], "transformer_blocks*2"),
        ("CogVideoXTransformer3DModel", &["transformer_blocks"], "transformer_blocks*2"),
    ];
    for (class, lists, expected) in cases {
        let names = blocks(lists);
        let found = scan(class, &names.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(order(&found), *expected, "{class}");
        assert!(found.warnings.is_empty(), "{class}: {:?}", found.warnings);
    }
}

#[test]
fn a_unet_is_one_chain_with_long_skips() {
    let mut names = Vec::new();
    for n in 0..3 {
        names.push(format!("down_blocks.{n}.resnets.0.conv1.weight"));
        names.push(format!("up_blocks.{n}.resnets.0.conv1.weight"));
    }
    for part in ["resnets.0", "resnets.1", "attentions.0"] {
        names.push(format!("mid_block.{part}.conv1.weight"));
    }
    let found = scan("UNet2DConditionModel", &names.iter().map(String::as_str).collect::<Vec<_>>());
    expect![
        "down_blocks*3 mid_block.resnets*1 mid_block.attentions*1 mid_block.resnets*1 up_blocks*3"
    ]
    .assert_eq(&order(&found));
    let component = &found.manifest.components[0];
    let edges: Vec<String> =
        component.edges.iter().map(|e| format!("{}>{}", e.from, e.to)).collect();
    expect!["down_blocks.0>up_blocks.1 down_blocks.0>up_blocks.2 down_blocks.1>up_blocks.0 down_blocks.1>up_blocks.1 down_blocks.2>up_blocks.0"]
        .assert_eq(&edges.join(" "));
    assert_eq!(graph::build(component, &found.manifest).unwrap().node_count(), 9);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let checkpoint = read(&model("UNet2DConditionModel", &named(&names)), None).unwrap();
    let backwards =
        Choices { order: vec!["up_blocks".into(), "down_blocks".into()], ..Choices::default() };
    assert_eq!(checkpoint.manifest(&backwards).unwrap_err().exit_code(), 2);
}

#[test]
fn lists_that_the_class_does_not_name_come_last_with_a_warning() {
    let found = scan(
        "WanTransformer3DModel",
        &["adapter.0.a.w", "adapter.1.a.w", "blocks.0.a.w", "blocks.1.a.w"],
    );
    assert_eq!(order(&found), "blocks*2 adapter*2");
    assert_eq!(found.warnings, ["transformer: nothing says when adapter runs; put last (--order)"]);
}

#[test]
fn choices_beat_class_and_names() {
    let entries = named(&[
        "a.0.x.w",
        "a.1.x.w",
        "b.0.y.0.w",
        "b.0.y.1.w",
        "b.1.y.0.w",
        "b.1.y.1.w",
        "c.0.w",
        "c.1.w",
    ]);
    let folder = model("X", &entries);
    let with = |order: &[&str], lists: &[&str]| Choices {
        order: order.iter().map(|&s| s.to_owned()).collect(),
        lists: lists.iter().map(|&s| s.to_owned()).collect(),
        name: Some("Given".to_owned()),
    };
    let found = scanned(&folder, &with(&["b", "model.a"], &[]));
    assert_eq!((order(&found).as_str(), found.warnings.len()), ("b*2 a*2", 0));
    assert_eq!(found.manifest.model, "Given");
    assert_eq!(order(&scanned(&folder, &with(&["c"], &["c", "model.b"]))), "c*2 b*2");
    let checkpoint = read(&folder, None).unwrap();
    for (choices, name, known) in [
        (with(&["bb"], &[]), "bb", "a b"),
        (with(&["c"], &[]), "c", "a b"),
        (with(&[], &["x"]), "x", "a b b.0.y b.1.y c"),
        (with(&[], &["b", "b.0.y"]), "b.0.y", "b"),
    ] {
        let unknown = checkpoint.unknown_name(&choices).unwrap();
        assert_eq!((unknown.name.as_str(), unknown.known.join(" ").as_str()), (name, known));
        assert_eq!(checkpoint.manifest(&choices).unwrap_err().exit_code(), 2);
    }
}

#[test]
fn equal_blocks_share_a_kind_and_unequal_ones_have_letters() {
    let block = |n: u64, width: u64| bf16(format!("layers.{n}.mlp.weight"), &[width]);
    let mut entries: Vec<Entry> =
        [4, 4, 8, 4, 8].iter().zip(0..).map(|(&w, n)| block(n, w)).collect();
    entries.extend((0..2).map(|n| bf16(format!("refiner.{n}.mlp.weight"), &[4])));
    let found = scanned(&model("X", &entries), &Choices::default());
    let yaml = found.manifest.to_yaml().unwrap();
    expect![[r#"
        format: vramplan/manifest/1
        model: tiny-model
        kinds:
          layers.a:
            tensors:
              - [mlp.weight, bf16, [4]]
          layers.b:
            tensors:
              - [mlp.weight, bf16, [8]]
        components:
          - name: model
            class: X
            root:
              tensors: []
            blocks:
              - {list: layers, kind: layers.a, count: 2}
              - {list: layers, kind: layers.b, count: 1}
              - {list: layers, kind: layers.a, count: 1}
              - {list: layers, kind: layers.b, count: 1}
              - {list: refiner, kind: layers.a, count: 2}
    "#]]
    .assert_eq(&yaml);
    let summary = Summary::of(&found);
    assert_eq!(summary.components[0].lists[0].bytes, [8, 8, 16, 8, 16]);
    expect![[r#"
        tiny-model: 72 B (72 bytes) in 7 tensors

        model X
                                              blocks         each      size       bytes
          root                                                         0 B            0
          layers                                 5      <= 16 B       56 B           56
          refiner                                2          8 B       16 B           16
          total, 7 tensors                                            72 B           72
    "#]]
    .assert_eq(&summary.table());
}

proptest! {
    #[test]
    fn nothing_is_lost_and_the_manifest_reads_back(
        names in prop::collection::btree_map("([ab0-3]{1,2}\\.){0,4}[ab0-3]", 0u64..4, 1..40)
    ) {
        let entries: Vec<Entry> = names.iter().map(|(name, &width)| bf16(name.clone(), &[width])).collect();
        let found = scanned(&model("X", &entries), &Choices::default());
        let component = &found.manifest.components[0];
        prop_assert_eq!(component.tensor_count(&found.manifest), entries.len() as u64);
        let summary = &Summary::of(&found).components[0];
        let inside: u64 = summary.lists.iter().flat_map(|list| &list.bytes).sum();
        prop_assert_eq!(summary.root_bytes + inside, summary.total_bytes);
        prop_assert_eq!(summary.total_bytes, entries.iter().map(|e| e.3).sum::<u64>());
        let mut back: Vec<String> = component.root.tensors().iter().map(|t| t.name().to_owned()).collect();
        for block in component.blocks(&found.manifest) {
            back.extend(block.kind.weights.tensors().iter().map(|t| format!("{}.{}", block.local_id(), t.name())));
        }
        back.sort();
        prop_assert_eq!(back, names.into_keys().collect::<Vec<_>>());
        let yaml = found.manifest.to_yaml().unwrap();
        prop_assert_eq!(vramplan::model::Manifest::from_yaml("m", &yaml).unwrap(), found.manifest);
    }
}
