//! Selects the files of a repository that a model needs, by layout and precision, and their target paths. Weights for other
//! runtimes (PyTorch, RKNN, Arm NN, TensorFlow) and other precisions are not downloaded.

use super::HubError;
use super::listing::{Listing, RemoteFile};
use crate::domain::registry::Layout;
use crate::domain::{HubReason, Precision};
use crate::model::layouts::{self, OPTIONAL};

/// A file to download, and its path below the model's directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted<'a> {
    pub repository: &'a str,
    pub commit: &'a str,
    pub file: &'a RemoteFile,
    pub path: String,
}

/// Detects the layout of a repository, or of a pair.
///
/// # Errors
/// `hub_layout_unknown`, with the graphs that were found.
pub(super) fn layout_of(listings: &[Listing]) -> Result<Layout, HubError> {
    layouts::on_hub(listings.len() == 2).find(|layout| !precisions(*layout, listings).is_empty()).ok_or_else(|| {
        let names: Vec<_> = listings.iter().map(|l| l.repository.as_str()).collect();
        HubError::new(
            HubReason::LayoutUnknown,
            format!(
                "{} has {}; expected visual/model.onnx and textual/model.onnx, or onnx/vision_model.onnx and \
                 onnx/text_model.onnx, or onnx/model.onnx with both towers, or a pair OWNER/IMAGE+OWNER/TEXT with model.onnx each",
                names.join("+"),
                graphs(listings)
            ),
        )
    })
}

/// The precisions for which the repositories have all graphs.
fn precisions(layout: Layout, listings: &[Listing]) -> Vec<Precision> {
    let repositories = layouts::repositories(layout);
    Precision::ALL
        .into_iter()
        .filter(|precision| {
            listings.iter().zip(&repositories).all(|(listing, repository)| {
                repository.towers.iter().all(|tower| graph_of(listing, &tower.graph, *precision).is_some())
            })
        })
        .collect()
}

/// The files of one precision.
///
/// # Errors
/// `hub_precision_missing` with the available ones, `hub_file_missing` if a file other than the graphs is missing.
pub(super) fn select<'a>(
    layout: Layout,
    listings: &'a [Listing],
    precision: Precision,
) -> Result<Vec<Wanted<'a>>, HubError> {
    let mut wanted = Vec::new();
    for (listing, repository) in listings.iter().zip(layouts::repositories(layout)) {
        let folder = repository.folder;
        let mut take = |file: &'a RemoteFile| {
            let path = if folder.is_empty() { file.path.clone() } else { format!("{folder}/{}", file.path) };
            // Both towers of a combined graph want it.
            if wanted.iter().all(|known: &Wanted<'_>| known.path != path) {
                wanted.push(Wanted { repository: &listing.repository, commit: &listing.commit, file, path });
            }
        };
        for tower in &repository.towers {
            let Some(graph) = graph_of(listing, &tower.graph, precision) else {
                return Err(no_graph(layout, listings, listing, precision));
            };
            take(graph);
            external_data(listing, &graph.path, precision).for_each(&mut take);
            tower.optional.iter().filter_map(|name| file(listing, name)).for_each(&mut take);
            for name in &tower.needed {
                take(file(listing, name).ok_or_else(|| {
                    HubError::new(
                        HubReason::FileMissing,
                        format!("{} has no {name}, which the {layout} layout needs", listing.repository),
                    )
                })?);
            }
        }
        OPTIONAL.iter().filter_map(|name| file(listing, name)).for_each(&mut take);
    }
    Ok(wanted)
}

fn file<'a>(listing: &'a Listing, path: &str) -> Option<&'a RemoteFile> {
    listing.files.iter().find(|file| file.path == path)
}

fn graph_of<'a>(listing: &'a Listing, graph: &str, precision: Precision) -> Option<&'a RemoteFile> {
    precision.suffixes().iter().find_map(|suffix| file(listing, &format!("{graph}{suffix}.onnx")))
}

/// External weights of a graph: `model.onnx.data`, `model.onnx_data`, or, from PyTorch's tracing exporter, one file per tensor
/// beside it, named after the tensor (`onnx__MatMul_9335`). The latter belong to the full-precision graph.
fn external_data<'a>(
    listing: &'a Listing,
    graph: &'a str,
    precision: Precision,
) -> impl Iterator<Item = &'a RemoteFile> {
    let folder = graph.rsplit_once('/').map_or("", |(folder, _)| folder);
    listing.files.iter().filter(move |file| {
        let (in_folder, name) = file.path.rsplit_once('/').unwrap_or(("", &file.path));
        if let Some(rest) = file.path.strip_prefix(graph) {
            return rest.starts_with(".data") || rest.starts_with("_data");
        }
        // The root of a repository also contains unrelated files.
        precision == Precision::Fp32 && !folder.is_empty() && in_folder == folder && is_tensor(name)
    })
}

/// Whether it is a name that PyTorch gives to tensors, not one of other files beside a graph.
fn is_tensor(name: &str) -> bool {
    let other = [
        ".onnx",
        ".json",
        ".txt",
        ".md",
        ".model",
        ".armnn",
        ".rknn",
        ".bin",
        ".pt",
        ".pth",
        ".h5",
        ".msgpack",
        ".tflite",
        ".safetensors",
        ".xml",
        ".png",
        ".jpg",
        ".py",
    ];
    !name.contains(".onnx") && !name.starts_with('.') && !other.iter().any(|end| name.ends_with(end))
}

fn no_graph(layout: Layout, listings: &[Listing], listing: &Listing, precision: Precision) -> HubError {
    let there = precisions(layout, listings);
    let there: Vec<_> = there.iter().map(|p| p.as_str()).collect();
    let repository = &listing.repository;
    if there.is_empty() {
        let message = format!("{repository} has {}, not the graphs of the {layout} layout", graphs(listings));
        return HubError::new(HubReason::FileMissing, message);
    }
    let message = format!("{repository} has the precisions {}, not {precision}", there.join(", "));
    HubError::new(HubReason::PrecisionMissing, message)
        .hint(format!("choose --precision {}, another --source, or export the model", there[0]))
}

fn graphs(listings: &[Listing]) -> String {
    let files = listings.iter().flat_map(|l| &l.files);
    let names: Vec<_> = files.map(|f| f.path.as_str()).filter(|path| path.ends_with(".onnx")).take(10).collect();
    if names.is_empty() { "no ONNX graphs".to_owned() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(repository: &str, files: &[&str]) -> Listing {
        let file = |path: &&str| RemoteFile { path: (*path).to_owned(), bytes: Some(1), checksum: None };
        let files = files.iter().map(file).collect();
        Listing { repository: repository.into(), commit: "c0".into(), licence: None, files }
    }

    fn paths(layout: Layout, listings: &[Listing], precision: Precision) -> Vec<String> {
        let mut paths: Vec<_> = select(layout, listings, precision).unwrap().into_iter().map(|w| w.path).collect();
        paths.sort();
        paths
    }

    #[test]
    fn immichs_other_runtimes_are_left_and_external_tensors_taken() {
        let listings = [listing(
            "immich-app/ViT-H-14-quickgelu__dfn5b",
            &[
                ".gitattributes",
                "README.md",
                "config.json",
                "rknpu/rk3588/visual/model.rknn",
                "textual/model.onnx",
                "textual/model.armnn",
                "textual/merges.txt",
                "textual/tokenizer.json",
                "textual/tokenizer_config.json",
                "visual/fp16/model.armnn",
                "visual/model.onnx",
                "visual/onnx__MatMul_9335",
                "visual/visual.transformer.resblocks.0.mlp.c_fc.bias",
                "visual/preprocess_cfg.json",
            ],
        )];
        assert_eq!(layout_of(&listings).unwrap(), Layout::Immich);
        assert_eq!(
            paths(Layout::Immich, &listings, Precision::Fp32),
            [
                "config.json",
                "textual/model.onnx",
                "textual/tokenizer.json",
                "textual/tokenizer_config.json",
                "visual/model.onnx",
                "visual/onnx__MatMul_9335",
                "visual/preprocess_cfg.json",
                "visual/visual.transformer.resblocks.0.mlp.c_fc.bias",
            ]
        );
    }

    #[test]
    fn each_precision_has_its_own_graphs() {
        let listings = [listing(
            "Xenova/clip-vit-base-patch32",
            &[
                "config.json",
                "onnx/model.onnx",
                "onnx/text_model.onnx",
                "onnx/text_model.onnx_data",
                "onnx/text_model_fp16.onnx",
                "onnx/text_model_quantized.onnx",
                "onnx/vision_model.onnx",
                "onnx/vision_model_quantized.onnx",
                "preprocessor_config.json",
                "tokenizer.json",
            ],
        )];
        assert_eq!(layout_of(&listings).unwrap(), Layout::Xenova);
        assert_eq!(precisions(Layout::Xenova, &listings), [Precision::Fp32, Precision::Int8]);
        let rest = ["preprocessor_config.json", "tokenizer.json"];
        let with_rest = |graphs: &[&'static str]| [&["config.json"], graphs, &rest].concat();
        assert_eq!(
            paths(Layout::Xenova, &listings, Precision::Fp32),
            with_rest(&["onnx/text_model.onnx", "onnx/text_model.onnx_data", "onnx/vision_model.onnx"])
        );
        assert_eq!(
            paths(Layout::Xenova, &listings, Precision::Int8),
            with_rest(&["onnx/text_model_quantized.onnx", "onnx/vision_model_quantized.onnx"])
        );
        let error = select(Layout::Xenova, &listings, Precision::Fp16).unwrap_err();
        assert_eq!(error.reason, HubReason::PrecisionMissing);
        assert!(error.to_string().contains("has the precisions fp32, int8, not fp16"), "{error}");
    }

    // The names of onnx-community/siglip2-base-patch16-224-ONNX.
    #[test]
    fn graphs_of_four_bits_are_a_precision_and_a_split_pair_goes_before_the_combined_graph() {
        let mut names = vec![
            "config.json",
            "preprocessor_config.json",
            "special_tokens_map.json",
            "tokenizer.json",
            "tokenizer_config.json",
        ];
        let graphs: Vec<String> = ["model", "text_model", "vision_model"]
            .iter()
            .flat_map(|stem| {
                let suffixes = ["", "_bnb4", "_fp16", "_int8", "_q4", "_q4f16", "_quantized", "_uint8"];
                suffixes.map(|suffix| format!("onnx/{stem}{suffix}.onnx"))
            })
            .collect();
        names.extend(graphs.iter().map(String::as_str));
        let listings = [listing("onnx-community/siglip2-base-patch16-224-ONNX", &names)];
        assert_eq!(layout_of(&listings).unwrap(), Layout::Xenova);
        assert_eq!(precisions(Layout::Xenova, &listings), Precision::ALL);
        let beside = ["preprocessor_config.json", "tokenizer.json", "tokenizer_config.json"];
        for (precision, suffix) in Precision::ALL.into_iter().zip(["", "_fp16", "_int8", "_q4"]) {
            let graphs = ["text_model", "vision_model"].map(|stem| format!("onnx/{stem}{suffix}.onnx"));
            let expected = [&["config.json"], &graphs.each_ref().map(String::as_str)[..], &beside].concat();
            assert_eq!(paths(Layout::Xenova, &listings, precision), expected);
        }
    }

    // The names of jinaai/jina-clip-v2.
    #[test]
    fn a_combined_graph_is_taken_once_with_its_weights() {
        let listings = [listing(
            "jinaai/jina-clip-v2",
            &[
                "config.json",
                "model.safetensors",
                "onnx/model.onnx",
                "onnx/model.onnx_data",
                "onnx/model_bnb4.onnx",
                "onnx/model_fp16.onnx",
                "onnx/model_q4.onnx",
                "preprocessor_config.json",
                "tokenizer.json",
                "tokenizer_config.json",
            ],
        )];
        assert_eq!(layout_of(&listings).unwrap(), Layout::Combined);
        assert_eq!(
            paths(Layout::Combined, &listings, Precision::Fp32),
            [
                "config.json",
                "onnx/model.onnx",
                "onnx/model.onnx_data",
                "preprocessor_config.json",
                "tokenizer.json",
                "tokenizer_config.json"
            ]
        );
        assert_eq!(precisions(Layout::Combined, &listings), [Precision::Fp32, Precision::Fp16, Precision::Int4]);
    }

    #[test]
    fn a_pair_goes_into_two_folders() {
        let listings = [
            listing("q/clip-vision", &["model.onnx", "preprocessor_config.json", "config.json", "onnx__MatMul_1"]),
            listing("q/clip-text", &["model.onnx", "tokenizer.json", "vocab.json"]),
        ];
        assert_eq!(layout_of(&listings).unwrap(), Layout::FastEmbedPair);
        assert_eq!(
            paths(Layout::FastEmbedPair, &listings, Precision::Fp32),
            [
                "text/model.onnx",
                "text/tokenizer.json",
                "vision/config.json",
                "vision/model.onnx",
                "vision/preprocessor_config.json"
            ]
        );
    }

    #[test]
    fn what_is_missing_is_named() {
        let weights = [listing("laion/CLIP-ViT-B-32-laion2B-s34B-b79K", &["open_clip_pytorch_model.bin"])];
        let error = layout_of(&weights).unwrap_err();
        assert!(error.to_string().contains("has no ONNX graphs") && error.to_string().contains("export"), "{error}");
        let untokenized = [listing("a/b", &["visual/model.onnx", "textual/model.onnx", "visual/preprocess_cfg.json"])];
        let error = select(Layout::Immich, &untokenized, Precision::Fp32).unwrap_err();
        assert!(error.to_string().contains("a/b has no textual/tokenizer.json"), "{error}");
    }
}
