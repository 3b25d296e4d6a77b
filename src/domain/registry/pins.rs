//! The content of third-party repositories when this release was made: commit, and SHA-256 of the files. A hub
//! proves that a download is what it has; this proves that it is what was reviewed.
//!
//! `tools/pin_models.py` queries the hub and prints this table again. Review every change of it.

/// One repository at one commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pin {
    /// `owner/name`.
    pub repository: &'static str,
    /// The default revision.
    pub commit: &'static str,
    /// By path in the repository: SHA-256, in lower-case hexadecimal digits.
    pub files: &'static [(&'static str, &'static str)],
}

impl Pin {
    pub fn sha256(&self, path: &str) -> Option<&'static str> {
        self.files.iter().find(|(name, _)| *name == path).map(|(_, sha256)| *sha256)
    }
}

/// `None` if it is not pinned.
pub fn pinned_commit(repository: &str) -> Option<&'static str> {
    PINS.iter().find(|pin| pin.repository == repository).map(|pin| pin.commit)
}

/// All pinned repositories. The content of others may change.
pub fn pins() -> &'static [Pin] {
    PINS
}

#[rustfmt::skip]
const PINS: &[Pin] = &[
    Pin {
        repository: "Qdrant/clip-ViT-B-32-text",
        commit: "48ca1db27cb4063eb311ec2aa7f087a808112876",
        files: &[
            ("model.onnx", "4dbe762b11e36488304471e439cde89da053ad7acaddbf9e096745d142ec8d8b"),
        ],
    },
    Pin {
        repository: "Qdrant/clip-ViT-B-32-vision",
        commit: "e0c24ed0fa57fa3e4f97f30de74c51d944036ace",
        files: &[
            ("model.onnx", "c68d3d9a200ddd2a8c8a5510b576d4c94d1ae383bf8b36dd8c084f94e1fb4d63"),
            ("preprocessor_config.json", "ce945ef831c9972c135b5b198a03d8eeb70478cd69c0238f24caf1903a9965e6"),
        ],
    },
    Pin {
        repository: "Xenova/clip-vit-base-patch32",
        commit: "d15189d7028b43f1d3e65039190477f6af591c2a",
        files: &[
            ("onnx/text_model.onnx", "3f6571f5bad13a97c469c1622e1cfc4d9aef78b79fdbfcff804ca357bfada8cc"),
            ("onnx/text_model_quantized.onnx", "73baab855d406190da9faa498cfedf65f15cf309f4cc7385b7b032e6d08e5c3a"),
            ("onnx/vision_model.onnx", "fd6e1402a588279d1723c7534d4bcba5bc0b14b47dfab0e46f8c47b8270d7d40"),
            ("onnx/vision_model_quantized.onnx", "583fd1110a514667812fee7d684952aaf82a99b959760c8d7dca7e0ab9839299"),
            ("preprocessor_config.json", "6f638fb9401a6d6296feff533ee7efe657b787c49f954f82f5906b36ef2a1b1f"),
            ("tokenizer.json", "f7f3b7af117d467b58374797691a6438d3e6b9e9cef800dfd5dced7f697a90cd"),
        ],
    },
    Pin {
        repository: "immich-app/ViT-B-32__openai",
        commit: "a857c8de2c07bbcfa6646adfcf31b798845afa1e",
        files: &[
            ("textual/model.onnx", "b80cf0af751533a6712d92247f0ddc0c95208748bc59a1a27f33e67be6864e3b"),
            ("visual/model.onnx", "33a3df41ceef21acdf371af00f6dd0456ec1f9eba24d03a7720f9c3734e40859"),
        ],
    },
];
