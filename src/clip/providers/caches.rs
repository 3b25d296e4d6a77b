//! Separate folders of built engines per model. TensorRT's provider names an engine by the graph's file name and the
//! names in it (ONNX Runtime, `TRTGenerateId`), Core ML's similarly, both without the weights. Otherwise two
//! checkpoints of one architecture would share an engine, and one would run with the other's weights.

use crate::clip::ClipError;
use crate::config::{ClipSettings, Provider};
use crate::domain::{ClipReason, Fault};

/// Digits of the graphs' digest in a folder's name: short, yet unique.
const DIGITS: usize = 16;

/// `settings` with each wanted provider's `cache_directory` replaced by the model's own folder below it, which is
/// created. `graphs_sha256` is called only if needed; it gives the digest of the graphs and their weights, in hex.
pub(crate) fn with_own_caches<'d>(
    mut settings: ClipSettings,
    graphs_sha256: impl Fn() -> Result<&'d str, ClipError>,
) -> Result<ClipSettings, ClipError> {
    let wanted: Vec<Provider> = settings.providers.iter().map(|entry| entry.provider).collect();
    let caches = [
        (Provider::TensorRt, &mut settings.tensorrt.cache_directory),
        (Provider::OpenVino, &mut settings.openvino.cache_directory),
        (Provider::CoreMl, &mut settings.coreml.cache_directory),
    ];
    for (provider, cache) in caches {
        let Some(folder) = cache.as_mut().filter(|_| wanted.contains(&provider)) else { continue };
        let digest = graphs_sha256()?;
        folder.push(digest.get(..DIGITS).unwrap_or(digest));
        // TensorRT's provider only creates the last folder.
        std::fs::create_dir_all(&*folder).map_err(|e| {
            Fault::new(ClipReason::CacheUnwritable, format!("{} cannot be made: {e}", folder.display()))
                .hint(format!("correct clip.{provider}.cache_directory, or make it writable"))
        })?;
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ProviderEntry;

    #[test]
    fn every_model_has_a_folder_of_its_own_for_the_providers_it_wants() {
        let root = tempfile::tempdir().unwrap();
        let providers = vec![ProviderEntry::preferred(Provider::TensorRt), ProviderEntry::required(Provider::Cpu)];
        let mut settings = ClipSettings { providers, ..ClipSettings::default() };
        settings.tensorrt.cache_directory = Some(root.path().join("engines"));
        settings.openvino.cache_directory = Some(root.path().join("unused"));
        let [one, other] = ["a", "b"].map(|digit| {
            let digest = digit.repeat(64);
            with_own_caches(settings.clone(), || Ok(&digest)).unwrap()
        });
        let folder = one.tensorrt.cache_directory.unwrap();
        assert_eq!(folder, root.path().join("engines").join("a".repeat(DIGITS)));
        assert!(folder.is_dir());
        assert_ne!(Some(folder), other.tensorrt.cache_directory);
        assert_eq!(one.openvino.cache_directory, settings.openvino.cache_directory);
        assert!(!root.path().join("unused").exists());
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named_with_its_setting() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("file");
        std::fs::write(&file, "").unwrap();
        let providers = vec![ProviderEntry::required(Provider::OpenVino)];
        let mut settings = ClipSettings { providers, ..ClipSettings::default() };
        settings.openvino.cache_directory = Some(file.clone());
        let error = with_own_caches(settings, || Ok("aaaaaaaaaaaaaaaaaaaa")).unwrap_err().to_string();
        assert!(error.contains(&*file.to_string_lossy()), "{error}");
        assert!(error.contains("clip.openvino.cache_directory"), "{error}");
    }
}
