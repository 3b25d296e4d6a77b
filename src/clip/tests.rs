//! The demo model and tiny graphs of every kind, run with the real ONNX Runtime.

use std::path::Path;

use futures::future::join_all;
use serde_json::json;

use super::tower::Tower as _;
use super::*;
use crate::config::{ModelEntry, Provider, ProviderEntry};
use crate::domain::{Class, ClipReason};
use crate::model::test_graph::{self, F16, F32, I32, I64, Second, channel_means, token_sums};
use crate::telemetry::Metrics;

const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/demo/model");

fn demo_entry() -> ModelEntry {
    ModelEntry { id: "demo/emoji".parse().unwrap(), directory: Some(DEMO.into()) }
}

fn load(entry: &ModelEntry, settings: &ClipSettings) -> Result<Clip, ClipError> {
    Clip::load(entry, settings, Arc::default())
}

fn demo() -> Clip {
    load(&demo_entry(), &ClipSettings::default()).unwrap()
}

/// Deterministic noise in roughly the range of normalised pixels.
fn noise(seed: u32, side: usize) -> Pixels {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    let data = (0..3 * side * side).map(|_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32 * 4.0 - 2.0
    });
    Pixels { data: data.collect(), height: side, width: side }
}

fn close(a: &Embedding, b: &Embedding, tolerance: f32) -> bool {
    a.dimension() == b.dimension() && a.as_slice().iter().zip(b.as_slice()).all(|(a, b)| (a - b).abs() <= tolerance)
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_give_what_single_runs_give() {
    let clip = demo();
    assert_eq!(clip.dimension(), 256);
    assert_eq!(clip.runs().to_string(), "fp32 on cpu");

    let texts = ["cat", "a red apple on a wooden table", "", "grinning face with smiling eyes", &"long ".repeat(200)];
    let together = join_all(texts.iter().map(|t| clip.embed_text(t))).await;
    for (text, together) in texts.iter().zip(together) {
        let alone = clip.embed_text(text).await.unwrap();
        assert!(close(&alone, &together.unwrap(), 1e-5), "{text}");
    }

    let together = join_all((0..20).map(|seed| clip.embed_pixels(noise(seed, 96)))).await;
    let mut tower = clip.model.opener.another_image_tower(&clip.runs().image, 0).unwrap();
    for (seed, together) in (0..20).zip(together) {
        let alone = tower.embed(&[noise(seed, 96)]).unwrap().remove(0);
        assert!(close(&alone, &together.unwrap(), 1e-5), "{seed}");
    }
}

#[tokio::test]
async fn a_picture_of_the_wrong_size_fails_alone() {
    let clip = demo();
    let (good, bad) = tokio::join!(clip.embed_pixels(noise(1, 96)), clip.embed_pixels(noise(1, 32)));
    assert!(good.is_ok());
    let error = bad.unwrap_err();
    assert_eq!((error.reason(), error.class()), (ClipReason::PixelsWrongSize.into(), Class::Permanent));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_outside_the_vocabulary_fails_alone() {
    let clip = demo();
    let good = clip.text.get_now().unwrap().tokenizer.encode("cat");
    let bad = vec![good[0], 9_999_999, *good.last().unwrap()];
    let answers =
        join_all([good.clone(), bad, good].map(|tokens| clip.text.get_now().unwrap().engine.embed(tokens))).await;
    let expected = clip.embed_text("cat").await.unwrap();
    assert!(close(answers[0].as_ref().unwrap(), &expected, 1e-5));
    assert_eq!(answers[1].as_ref().unwrap_err().reason(), ClipReason::RunFailed.into());
    assert!(close(answers[2].as_ref().unwrap(), &expected, 1e-5));
}

#[test]
fn texts_at_their_real_length_equal_the_padded_ones() {
    let clip = demo();
    let tokenizer = &clip.text.get_now().unwrap().tokenizer;
    let open = || clip.model.opener.another_text_tower(&clip.runs().text, 0, tokenizer).unwrap();
    let (mut real, mut padded) = (open(), open());
    assert!(real.is_at_real_length());
    padded.pad_always();
    let long = "word ".repeat(100);
    let texts = ["", "cat", "a red apple on a wooden table", "grinning face with smiling eyes", &long];
    let ids: Vec<Vec<i64>> = texts.iter().map(|text| clip.text.get_now().unwrap().tokenizer.encode(text)).collect();
    let ids: Vec<&Vec<i64>> = ids.iter().collect();
    let padded: Vec<_> = padded.run(&ids).unwrap().into_iter().map(Result::unwrap).collect();
    // Each alone, all in one run, and in the queue's groups.
    let groups = real.groups(&ids);
    assert!(groups.len() > 1, "the long one runs apart");
    for places in groups.into_iter().chain([(0..5).collect()]).chain((0..5).map(|place| vec![place])) {
        let group: Vec<_> = places.iter().map(|place| ids[*place]).collect();
        for (place, vector) in places.into_iter().zip(real.run(&group).unwrap()) {
            assert!(close(&vector.unwrap(), &padded[place], 1e-5), "{}", texts[place]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_tower_has_as_many_sessions_as_asked_for() {
    let settings = ClipSettings { sessions: 3, ..ClipSettings::default() };
    let metrics = Arc::new(Metrics::default());
    let clip = Clip::load(&demo_entry(), &settings, metrics.clone()).unwrap();
    assert_eq!(Arc::strong_count(&metrics), 3 + 2 * 3, "one thread each");
    let texts = join_all((0..40).map(|n| clip.embed_text(["cat", "a dog", "two red apples"][n % 3]))).await;
    let pictures = join_all((0..40).map(|n| clip.embed_pixels(noise(n % 3, 96)))).await;
    for (n, (text, picture)) in texts.iter().zip(&pictures).enumerate().skip(3) {
        assert!(close(text.as_ref().unwrap(), texts[n % 3].as_ref().unwrap(), 1e-5), "text {n}");
        assert!(close(picture.as_ref().unwrap(), pictures[n % 3].as_ref().unwrap(), 1e-5), "picture {n}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_count_the_batches_and_drop_ends_the_threads() {
    let metrics = Arc::new(Metrics::default());
    let clip = Clip::load(&demo_entry(), &ClipSettings::default(), metrics.clone()).unwrap();
    assert_eq!(Arc::strong_count(&metrics), 5, "one for each tower, and one for its thread");
    clip.embed_text("cat").await.unwrap();
    let text = metrics.encode();
    assert!(text.contains(r#"clipstream_batch_items_sum{kind="embed_text",target="demo/emoji"} 1"#), "{text}");
    assert!(clip.is_alive());
    drop(clip);
    assert_eq!(Arc::strong_count(&metrics), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tower_that_nobody_needs_is_not_opened() {
    let clip = Clip::prepare(&demo_entry(), &ClipSettings::default(), Arc::default()).unwrap();
    clip.prove().unwrap();
    assert_eq!((clip.dimension(), clip.image.opened().is_some(), clip.text.opened().is_some()), (256, false, false));
    let eager = demo();
    let text = clip.embed_text("cat").await.unwrap();
    assert_eq!(text, eager.embed_text("cat").await.unwrap());
    assert_eq!((clip.image.opened().is_some(), clip.text.opened().is_some()), (false, true));
    assert_eq!(clip.fingerprint().unwrap(), eager.fingerprint().unwrap());
    let picture = clip.embed_pixels(noise(1, 96)).await.unwrap();
    assert_eq!(picture, eager.embed_pixels(noise(1, 96)).await.unwrap());
    assert!(clip.image.opened().is_some());
}

#[test]
fn the_fingerprint_is_of_the_files() {
    let clip = demo();
    let fingerprint = clip.fingerprint().unwrap();
    assert_eq!((fingerprint.variant.as_str(), fingerprint.checkpoint.as_str()), ("demo", "emoji"));
    assert_eq!(fingerprint.preprocessing, clip.model.preprocess.canonical());
    let graphs: Vec<u8> = ["visual", "textual"]
        .iter()
        .flat_map(|f| std::fs::read(Path::new(DEMO).join(f).join("model.onnx")).unwrap())
        .collect();
    use sha2::{Digest, Sha256};
    assert_eq!(fingerprint.graph, format!("{:x}", Sha256::digest(graphs)));
    assert_eq!(fingerprint.tokenizer.len(), 64);
}

#[test]
fn a_provider_that_is_not_there_stops_the_start() {
    let providers = vec![ProviderEntry::required(Provider::OpenVino), ProviderEntry::required(Provider::Cpu)];
    // The CPU build never has OpenVINO.
    let error = load(&demo_entry(), &ClipSettings { providers, ..ClipSettings::default() }).err().unwrap();
    assert_eq!(error.reason(), ClipReason::ProviderUnavailable.into());
    let said = error.to_string();
    assert!(said.contains("execution provider openvino is unavailable: "), "{said}");
    assert!(said.contains("was built without it (no libonnxruntime_providers_openvino.so beside it)"), "{said}");
    assert!(said.ends_with("or write \"openvino:preferred\" in clip.providers to go on without it"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preferred_provider_that_is_not_there_is_left_out_and_said() {
    let providers = vec![ProviderEntry::preferred(Provider::OpenVino), ProviderEntry::preferred(Provider::MiGraphX)];
    let metrics = Arc::new(Metrics::default());
    let settings = ClipSettings { providers, device_ids: vec![0, 1], ..ClipSettings::default() };
    let clip = Clip::load(&demo_entry(), &settings, metrics.clone()).unwrap();
    assert_eq!(clip.runs().to_string(), "fp32 on cpu");
    let left_out = clip.runs().left_out();
    assert!(left_out[0].starts_with("openvino (") && left_out[1].starts_with("migraphx ("), "{left_out:?}");
    assert_eq!(Arc::strong_count(&metrics), 5, "the devices are GPUs: the CPU runs one session of each tower");
    let labels = r#"model="demo/emoji",tower="image",precision="fp32",provider="cpu",unavailable="openvino,migraphx""#;
    let text = metrics.encode();
    assert!(text.contains(&format!("clipstream_model_info{{{labels}}} 1")), "{text}");
    clip.embed_text("cat").await.unwrap();
}

/// A FastEmbed pair with these graphs; pictures are 8 x 8 pixels.
fn pair(image: test_graph::TestGraph, text: test_graph::TestGraph) -> (tempfile::TempDir, ModelEntry) {
    let folder = tempfile::tempdir().unwrap();
    let [vision, words] = ["clip-tiny-vision", "clip-tiny-text"].map(|f| folder.path().join(f));
    for f in [&vision, &words] {
        std::fs::create_dir(f).unwrap();
    }
    image.write(&vision.join("model.onnx"));
    text.write(&words.join("model.onnx"));
    let preprocessor = json!({
        "image_processor_type": "CLIPImageProcessor", "do_resize": true, "do_center_crop": true, "do_rescale": true,
        "do_normalize": true, "size": {"shortest_edge": 8}, "crop_size": {"height": 8, "width": 8}, "resample": 3,
        "rescale_factor": 0.003_921_568_627_450_98, "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
    });
    std::fs::write(vision.join("preprocessor_config.json"), preprocessor.to_string()).unwrap();
    std::fs::copy(Path::new(DEMO).join("textual/tokenizer.json"), words.join("tokenizer.json")).unwrap();
    let entry = ModelEntry { id: "tiny/test".parse().unwrap(), directory: Some(folder.path().to_owned()) };
    (folder, entry)
}

fn channel_mean(pixels: &Pixels) -> Embedding {
    let means = pixels.data.chunks(pixels.data.len() / 3).map(|c| c.iter().sum::<f32>() / c.len() as f32);
    Embedding::normalised(means.collect()).unwrap()
}

fn sums(ids: &[i64], second: Second) -> Embedding {
    let sum = |f: &dyn Fn(f32) -> f32| ids.iter().map(|id| f(*id as f32)).sum::<f32>();
    let first = if second == Second::Cosines { sum(&f32::sin) } else { sum(&|id| id) };
    let second = match second {
        // Types are 0.
        Second::Squares | Second::Types => sum(&|id| id * id),
        Second::Cosines => sum(&f32::cos) + (77 - ids.len()) as f32,
        Second::Mask => ids.len() as f32,
    };
    Embedding::normalised(vec![first, second, first]).unwrap()
}

/// Loads such a pair, embeds three pictures and three texts at once, and compares with sums computed here.
async fn check_pair(image: test_graph::TestGraph, text: test_graph::TestGraph, second: Second, tolerance: f32) {
    let (_folder, entry) = pair(image, text);
    let clip = load(&entry, &ClipSettings::default()).unwrap();
    assert_eq!((clip.dimension(), clip.model.opener.files.layout), (3, "FastEmbed pair"));
    let pictures = join_all((0..3).map(|seed| clip.embed_pixels(noise(seed, 8)))).await;
    for (seed, found) in (0..3).zip(pictures) {
        assert!(close(&found.unwrap(), &channel_mean(&noise(seed, 8)), tolerance), "picture {seed}");
    }
    let texts = ["cat", "a red apple on a table", "two words"];
    let found = join_all(texts.map(|t| clip.embed_text(t))).await;
    for (text, found) in texts.iter().zip(found) {
        let expected = sums(&clip.text.get_now().unwrap().tokenizer.encode(text), second);
        assert!(close(&found.unwrap(), &expected, 1e-5), "{text}: {expected:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn free_axes_and_i64_ids_with_a_mask() {
    let image = channel_means(F32, Err("batch"), Err("side"));
    check_pair(image, token_sums(I64, Second::Mask, Err("batch"), Err("sequence")), Second::Mask, 1e-5).await;
}

/// As exports of BERT and what was made from it demand them.
#[tokio::test(flavor = "multi_thread")]
async fn token_types_are_zeros() {
    for element in [I32, I64] {
        let image = channel_means(F32, Err("batch"), Err("side"));
        let text = token_sums(element, Second::Types, Err("batch"), Err("sequence"));
        check_pair(image, text, Second::Types, 1e-5).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f16_pixels_and_i32_ids_of_fixed_length() {
    let image = channel_means(F16, Err("batch"), Ok(8));
    check_pair(image, token_sums(I32, Second::Squares, Err("batch"), Ok(77)), Second::Squares, 2e-3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fixed_batch_runs_in_pieces() {
    let image = channel_means(F32, Ok(1), Ok(8));
    check_pair(image, token_sums(I64, Second::Squares, Ok(2), Err("sequence")), Second::Squares, 1e-5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_that_are_not_causal_run_at_the_whole_length() {
    let image = channel_means(F32, Err("batch"), Err("side"));
    check_pair(image, token_sums(I32, Second::Cosines, Err("batch"), Err("sequence")), Second::Cosines, 1e-5).await;
}

/// `X` and `X@2`: the graphs are in memory once.
#[tokio::test(flavor = "multi_thread")]
async fn models_that_differ_in_what_is_kept_of_a_vector_share_their_towers() {
    let (folder, whole) =
        pair(channel_means(F32, Err("batch"), Ok(8)), token_sums(I64, Second::Squares, Err("batch"), Err("sequence")));
    let manifest = json!({
        "format": 1, "model": "tiny/test", "dimension": 3, "image_size": 8, "context_length": 77, "matryoshka": [2],
    });
    std::fs::write(folder.path().join("clipstream.json"), manifest.to_string()).unwrap();
    let cut = ModelEntry { id: "tiny/test@2".parse().unwrap(), ..whole.clone() };
    let (_other, other) =
        pair(channel_means(F32, Err("batch"), Ok(8)), token_sums(I64, Second::Squares, Err("batch"), Err("sequence")));
    let settings = ClipSettings { models: vec![cut, whole, other], ..ClipSettings::default() };
    let clips = Clip::prepare_all(&settings, &Arc::default()).unwrap();
    let [cut, whole, other] = clips.as_slice() else { panic!("three models") };
    assert!(Arc::ptr_eq(&cut.text, &whole.text) && Arc::ptr_eq(&cut.image, &whole.image));
    assert!(!Arc::ptr_eq(&cut.text, &other.text), "another directory");
    assert_eq!([cut.dimension(), whole.dimension()], [2, 3]);
    let (short, long) = (cut.embed_text("a red apple").await.unwrap(), whole.embed_text("a red apple").await.unwrap());
    assert!(close(&short, &Embedding::normalised(long.as_slice()[..2].to_vec()).unwrap(), 1e-6));
    let (short, long) = (cut.embed_pixels(noise(1, 8)).await.unwrap(), whole.embed_pixels(noise(1, 8)).await.unwrap());
    assert!(close(&short, &Embedding::normalised(long.as_slice()[..2].to_vec()).unwrap(), 1e-6));
    let fingerprints = [cut, whole].map(|clip| clip.fingerprint().unwrap());
    assert_eq!(fingerprints.map(|found| found.dimension), [2, 3]);
    assert_eq!(fingerprints[0].graph, fingerprints[1].graph);
    // Its threads have their pulses once.
    assert!(cut.pulses().count() > 0 && whole.pulses().count() == 0);
}

#[test]
fn graphs_that_do_not_fit_are_named() {
    let text = || token_sums(I64, Second::Squares, Err("batch"), Err("sequence"));
    let (_folder, entry) = pair(channel_means(F32, Err("batch"), Ok(9)), text());
    let error = load(&entry, &ClipSettings::default()).err().unwrap().to_string();
    assert!(error.contains("takes 9x9 pixels, its preprocessing gives 8x8"), "{error}");
    assert!(error.starts_with("model tiny/test in "), "{error}");

    let (_folder, entry) = pair(text(), text());
    let error = load(&entry, &ClipSettings::default()).err().unwrap().to_string();
    assert!(error.contains("the graph's inputs are input_ids Tensor<i64>(batch, sequence)"), "{error}");

    let (folder, entry) = pair(channel_means(F32, Err("batch"), Ok(8)), text());
    std::fs::write(folder.path().join("clip-tiny-vision/model.onnx"), "nothing").unwrap();
    let error = load(&entry, &ClipSettings::default()).err().unwrap().to_string();
    assert!(error.contains("clip-tiny-vision/model.onnx is not an ONNX model: it does not begin as one"), "{error}");
    assert!(!error.contains('\n'), "{error}");
}

#[test]
fn towers_of_two_models_are_refused() {
    let (folder, entry) =
        pair(channel_means(F32, Err("batch"), Ok(8)), token_sums(I64, Second::Squares, Err("batch"), Err("sequence")));
    std::fs::copy(Path::new(DEMO).join("textual/model.onnx"), folder.path().join("clip-tiny-text/model.onnx")).unwrap();
    let error = load(&entry, &ClipSettings::default()).err().unwrap().to_string();
    assert!(error.contains("the image tower gives 3 values, the text tower 256"), "{error}");
}
