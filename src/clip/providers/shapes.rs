//! The shapes that towers run at, and TensorRT's profiles for them. The cost of a new shape depends on the provider:
//! little on the CPU and with CUDA, a compilation with MIGraphX, a slower kernel with TensorRT.

use super::options::Profiles;
use crate::clip::graph::{Axis, ImageSignature, TextSignature};
use crate::config::{ClipSettings, Provider};

/// Fixed cost of a run of the text tower on the CPU, in tokens, until it is known from its own runs. Measured with ViT-B-32 on two
/// cores: a run takes about 9 ms, mostly to read the weights, and 0.3 ms for each token.
const RUN_COST_TOKENS_CPU: usize = 30;

/// The same for devices where launching a run takes milliseconds and a token microseconds.
const RUN_COST_TOKENS: usize = 2048;

/// Tokens of a batch on the CPU at which no more texts are taken: 32 texts of CLIP's context length. More would only be
/// later, not faster.
const TOKENS_MAX_CPU: usize = 32 * 77;

/// Ascending sizes; a run is padded to the next one. Empty: no padding.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Buckets(Vec<usize>);

impl Buckets {
    fn fit(&self, size: usize) -> usize {
        self.0.iter().copied().find(|bucket| *bucket >= size).unwrap_or(size)
    }

    /// The `ends` below `max`, and `max` itself.
    fn up_to(max: usize, ends: impl IntoIterator<Item = usize>) -> Self {
        let mut ends: Vec<usize> = ends.into_iter().take_while(|end| *end < max).collect();
        ends.push(max);
        Self(ends)
    }

    /// Each bucket's smallest and largest size.
    fn ranges(&self) -> impl Iterator<Item = (usize, usize)> {
        let starts = std::iter::once(1).chain(self.0.iter().map(|end| end + 1));
        starts.zip(self.0.iter().copied())
    }
}

/// Powers of two, for providers that compile every shape.
fn rows(provider: Provider, batch_max: usize) -> Buckets {
    match provider {
        Provider::MiGraphX => Buckets::up_to(batch_max, (0..12).map(|power| 1 << power)),
        _ => Buckets::default(),
    }
}

fn lengths(provider: Provider, settings: &ClipSettings, context_length: usize) -> Buckets {
    match provider {
        Provider::TensorRt | Provider::MiGraphX => {
            Buckets::up_to(context_length, settings.tensorrt.text_lengths.iter().copied())
        }
        _ => Buckets::default(),
    }
}

/// How many rows a run of pictures has.
#[derive(Clone, Debug, Default)]
pub(crate) struct ImageShapes {
    rows: Buckets,
}

impl ImageShapes {
    pub(crate) fn new(provider: Provider, settings: &ClipSettings) -> Self {
        Self { rows: rows(provider, settings.image_batch_max) }
    }

    /// Rows of a run of `items` pictures; at least `items`.
    pub(crate) fn rows(&self, items: usize) -> usize {
        self.rows.fit(items)
    }
}

/// How many rows and tokens a run of texts has, and which texts run together.
#[derive(Clone, Debug)]
pub(crate) struct TextShapes {
    rows: Buckets,
    lengths: Buckets,
    run_cost_tokens: usize,
    tokens_max: usize,
}

impl TextShapes {
    pub(crate) fn new(provider: Provider, settings: &ClipSettings, context_length: usize) -> Self {
        let (run_cost_tokens, tokens_max) = match provider {
            Provider::Cpu => (RUN_COST_TOKENS_CPU, TOKENS_MAX_CPU),
            _ => (RUN_COST_TOKENS, usize::MAX),
        };
        Self {
            rows: rows(provider, settings.text_batch_max),
            lengths: lengths(provider, settings, context_length),
            run_cost_tokens,
            tokens_max,
        }
    }

    /// Tokens of a batch, at which no more texts are taken.
    pub(crate) fn tokens_max(&self) -> usize {
        self.tokens_max
    }

    pub(crate) fn rows(&self, items: usize) -> usize {
        self.rows.fit(items)
    }

    /// Tokens per text of a run whose longest text has `longest`.
    pub(crate) fn length(&self, longest: usize) -> usize {
        self.lengths.fit(longest)
    }

    /// Groups texts of these lengths so that all runs together take the least work, shortest first. Otherwise one long
    /// text would pad all short ones. Returns indices.
    ///
    /// `run_cost_tokens`: fixed cost of a run, in tokens, as far as it is known.
    pub(crate) fn groups(&self, lengths: &[usize], run_cost_tokens: Option<usize>) -> Vec<Vec<usize>> {
        let run_cost_tokens = run_cost_tokens.unwrap_or(self.run_cost_tokens);
        let mut order: Vec<usize> = (0..lengths.len()).collect();
        order.sort_by_key(|place| lengths[*place]);
        // Ends of the stretches of `order` with the same padded length. Groups consist of whole stretches.
        let length_at = |n: usize| self.length(lengths[order[n]]);
        let mut ends: Vec<usize> = (1..order.len()).filter(|n| length_at(*n) != length_at(n - 1)).collect();
        ends.push(order.len());
        // least[e]: the least work up to end e, and where its last group begins.
        let mut least: Vec<(usize, usize)> = Vec::with_capacity(ends.len());
        for (e, end) in ends.iter().enumerate() {
            let length = end.checked_sub(1).map_or(0, length_at);
            let group_from = |first: usize| {
                let (start, before) = first.checked_sub(1).map_or((0, 0), |p| (ends[p], least[p].0));
                (before + run_cost_tokens + (end - start) * length, first)
            };
            least.push((0..=e).map(group_from).min().unwrap_or_default());
        }
        let mut groups = Vec::new();
        let mut e = ends.len();
        while let Some(last) = e.checked_sub(1) {
            let first = least[last].1;
            let start = first.checked_sub(1).map_or(0, |p| ends[p]);
            groups.push(order[start..ends[last]].to_vec());
            e = first;
        }
        groups.reverse();
        groups
    }
}

/// The image tower's optimisation profiles: one per bucket of `tensorrt.image_batches`.
pub(crate) fn image_profiles(signature: &ImageSignature, size: [usize; 2], settings: &ClipSettings) -> Profiles {
    let mut profiles = Profiles::default();
    if [signature.batch, signature.height, signature.width].iter().all(|axis| *axis != Axis::Free) {
        return profiles;
    }
    let batches = Buckets::up_to(settings.image_batch_max, settings.tensorrt.image_batches.iter().copied());
    for (min, max) in batches.ranges() {
        let [min, max] =
            [min, max].map(|rows| signature.pixel_type.shape(signature.batch.fixed().unwrap_or(rows), size));
        profiles.add(&signature.pixels, &min, &max);
        if signature.batch != Axis::Free {
            break;
        }
    }
    profiles
}

/// The text tower's optimisation profiles: one per bucket of `tensorrt.text_lengths`, each for any number of texts.
pub(crate) fn text_profiles(signature: &TextSignature, context_length: usize, settings: &ClipSettings) -> Profiles {
    let mut profiles = Profiles::default();
    if signature.batch != Axis::Free && signature.sequence != Axis::Free {
        return profiles;
    }
    let lengths = match signature.sequence {
        Axis::Free => Buckets::up_to(context_length, settings.tensorrt.text_lengths.iter().copied()),
        Axis::Fixed(length) => Buckets(vec![length]),
    };
    for (min, max) in lengths.ranges() {
        let [min, max] = [(1, min), (settings.text_batch_max, max)].map(|(rows, length)| {
            vec![signature.batch.fixed().unwrap_or(rows), signature.sequence.fixed().unwrap_or(length)]
        });
        profiles.add(&signature.ids.0, &min, &max);
        for (name, _) in signature.mask.iter().chain(&signature.types) {
            profiles.add(name, &min, &max);
        }
    }
    profiles
}

impl Profiles {
    /// Adds one profile of one input, optimised for its maximum.
    fn add(&mut self, input: &str, min: &[usize], max: &[usize]) {
        for (shapes, shape) in [(&mut self.min, min), (&mut self.opt, max), (&mut self.max, max)] {
            if !shapes.is_empty() {
                shapes.push(',');
            }
            let shape: Vec<String> = shape.iter().map(usize::to_string).collect();
            shapes.push_str(&format!("{input}:{}", shape.join("x")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clip::graph::{Float, Integer, Output, PixelType};

    fn cpu() -> TextShapes {
        TextShapes::new(Provider::Cpu, &ClipSettings::default(), 77)
    }

    #[test]
    fn lengths_run_as_they_are_or_in_buckets_that_end_at_the_context() {
        let shapes = cpu();
        assert_eq!([1, 5, 76, 77].map(|length| shapes.length(length)), [1, 5, 76, 77]);
        let tensorrt = TextShapes::new(Provider::TensorRt, &ClipSettings::default(), 77);
        assert_eq!([2, 16, 17, 33].map(|length| tensorrt.length(length)), [16, 16, 32, 77]);
        // The context is shorter than a bucket.
        let short = TextShapes::new(Provider::TensorRt, &ClipSettings::default(), 20);
        assert_eq!([2, 17].map(|length| short.length(length)), [16, 20]);
        let images = ImageShapes::new(Provider::MiGraphX, &ClipSettings::default());
        assert_eq!([1, 3, 9, 16].map(|items| images.rows(items)), [1, 4, 16, 16]);
        assert_eq!(ImageShapes::new(Provider::Cpu, &ClipSettings::default()).rows(3), 3);
    }

    #[test]
    fn a_long_text_runs_apart_from_short_ones() {
        let mut lengths = vec![7; 31];
        lengths.insert(5, 77);
        let groups = cpu().groups(&lengths, None);
        assert_eq!(groups.len(), 2);
        assert_eq!((groups[0].len(), &groups[1][..]), (31, &[5][..]));
    }

    #[test]
    fn what_is_nearly_equal_runs_together_and_nothing_is_lost() {
        assert_eq!(cpu().groups(&[5, 9], None), [[0, 1]]);
        assert_eq!(cpu().groups(&[5, 9], Some(1)), [[0], [1]], "where a run costs next to nothing");
        assert_eq!(cpu().groups(&[], None), [[0_usize; 0]]);
        assert_eq!(cpu().groups(&[3], None), [[0]]);
        // On a GPU, launching a run costs more than the padding.
        let gpu = TextShapes::new(Provider::Cuda, &ClipSettings::default(), 77);
        assert_eq!(gpu.groups(&[7, 77, 7, 7], None).len(), 1);
        let lengths: Vec<usize> = (0..64).map(|n| 2 + n * 31 % 76).collect();
        let groups = cpu().groups(&lengths, None);
        let mut places = groups.concat();
        places.sort_unstable();
        assert_eq!(places, (0..64).collect::<Vec<_>>());
        assert!(groups.is_sorted_by_key(|group| group.iter().map(|place| lengths[*place]).max()));
        // Less work than in one run.
        let work = |group: &Vec<usize>| {
            let longest = group.iter().map(|place| lengths[*place]).max().unwrap_or(0);
            RUN_COST_TOKENS_CPU + group.len() * cpu().length(longest)
        };
        assert!(groups.len() > 1 && groups.iter().map(work).sum::<usize>() < RUN_COST_TOKENS_CPU + 64 * 77);
    }

    #[test]
    fn tensorrt_gets_every_bucket() {
        let output = Output { name: "out".into(), float: Float::F32 };
        let mut signature = TextSignature {
            ids: ("ids".into(), Integer::I64),
            mask: Some(("mask".into(), Integer::I64)),
            types: Some(("types".into(), Integer::I64)),
            batch: Axis::Free,
            sequence: Axis::Free,
            output: output.clone(),
        };
        let profiles = text_profiles(&signature, 77, &ClipSettings::default());
        assert_eq!(
            profiles.min,
            "ids:1x1,mask:1x1,types:1x1,ids:1x17,mask:1x17,types:1x17,ids:1x33,mask:1x33,types:1x33"
        );
        let of = |length: u32| format!("ids:128x{length},mask:128x{length},types:128x{length}");
        assert_eq!(profiles.max, [16, 32, 77].map(of).join(","));
        assert_eq!(profiles.opt, profiles.max);
        signature.sequence = Axis::Fixed(77);
        assert_eq!(text_profiles(&signature, 77, &ClipSettings::default()).min, "ids:1x77,mask:1x77,types:1x77");
        signature.batch = Axis::Fixed(1);
        assert_eq!(text_profiles(&signature, 77, &ClipSettings::default()).min, "");
        let signature = ImageSignature {
            pixels: "pixels".into(),
            pixel_type: PixelType::Planes(Float::F32),
            batch: Axis::Free,
            height: Axis::Fixed(224),
            width: Axis::Fixed(224),
            output,
        };
        let profiles = image_profiles(&signature, [224, 224], &ClipSettings::default());
        assert_eq!(profiles.min, "pixels:1x3x224x224,pixels:2x3x224x224");
        assert_eq!(profiles.max, "pixels:1x3x224x224,pixels:16x3x224x224");
    }
}
