//! The measurements of one demonstration, in seconds since the first confirm: the data of the report.

use jiff::Timestamp;

/// The measurements of a demonstration.
#[derive(Clone, Debug)]
pub struct Recording {
    /// Name of the ImagePipeline.
    pub pipeline: String,
    /// Time of the first confirm.
    pub first_confirm: Timestamp,
    /// Duration of the publishing, in seconds.
    pub publishing: f64,
    /// Size of the published images, in bytes.
    pub bytes: u64,
    /// Sizes of the Deployment, each from the moment it was seen; empty without Kubernetes.
    pub sizes: Vec<Size>,
    /// Queue and bucket, read at intervals.
    pub samples: Vec<Sample>,
    /// Published, stored and parked images.
    pub outcome: Outcome,
}

/// Size of the Deployment from one moment on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Size {
    /// Time of the watch event.
    pub at: f64,
    /// `spec.replicas`.
    pub desired: i64,
    /// `status.readyReplicas`.
    pub ready: i64,
}

/// Queue and bucket at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// Time of the reading.
    pub at: f64,
    /// Messages ready in the queue.
    pub queued: u32,
    /// Images of this demonstration in the bucket.
    pub stored: usize,
}

/// Counts at the end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Outcome {
    /// Confirmed images.
    pub published: usize,
    /// Confirmed images in the bucket's listing.
    pub stored: usize,
    /// Messages that were parked.
    pub parked: usize,
}

impl Outcome {
    /// Images that are neither in the bucket nor parked.
    pub fn lost(&self) -> usize {
        self.published.saturating_sub(self.stored + self.parked)
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { published, stored, parked } = self;
        write!(formatter, "published {published}, stored {stored}, parked {parked}, lost {}", self.lost())
    }
}

impl Recording {
    /// The largest size in the spec. It differs between runs, with the part of the burst that waits at the same
    /// time.
    pub fn largest(&self) -> i64 {
        self.since_confirm().map(|size| size.desired).max().unwrap_or(0)
    }

    /// Time at which the largest size was set.
    pub fn time_to_size(&self) -> Option<f64> {
        self.grown().map(|size| size.at)
    }

    /// Time at which that many pods were ready.
    pub fn time_to_ready(&self) -> Option<f64> {
        let grown = self.grown()?.desired;
        self.since_confirm().find(|size| size.ready >= grown).map(|size| size.at)
    }

    /// Time at which the first image was in the bucket.
    pub fn time_to_first_stored(&self) -> Option<f64> {
        self.time_to(1)
    }

    /// Time at which the last image was in the bucket.
    pub fn time_to_stored(&self) -> Option<f64> {
        self.time_to(self.outcome.published)
    }

    /// Time at which the size was 0 again.
    pub fn time_to_zero(&self) -> Option<f64> {
        let grown = self.grown()?.at;
        self.sizes.iter().find(|size| size.at > grown && size.desired == 0).map(|size| size.at)
    }

    /// Stored images per second, from the first confirm to the last image.
    pub fn images_per_second(&self) -> Option<f64> {
        self.time_to_stored().filter(|seconds| *seconds > 0.0).map(|seconds| self.outcome.published as f64 / seconds)
    }

    /// The sizes in the spec, in order, without repetition.
    pub fn steps(&self) -> Vec<i64> {
        let mut steps: Vec<i64> = self.sizes.iter().map(|size| size.desired).collect();
        steps.dedup();
        steps
    }

    fn since_confirm(&self) -> impl Iterator<Item = &Size> {
        self.sizes.iter().filter(|size| size.at >= 0.0)
    }

    fn grown(&self) -> Option<&Size> {
        let largest = self.largest();
        self.since_confirm().find(|size| size.desired > 0 && size.desired == largest)
    }

    fn time_to(&self, images: usize) -> Option<f64> {
        self.samples.iter().find(|sample| sample.stored >= images).map(|sample| sample.at)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A typical demonstration: six pods after 1.5 s, all images stored after 9 s, no pods after 30 s.
    pub fn recorded() -> Recording {
        let sizes = [(-4.0, 0, 0), (1.5, 6, 0), (2.9, 6, 4), (3.4, 6, 6), (26.0, 6, 6), (30.0, 0, 6), (31.0, 0, 0)];
        let samples = [
            (-2.0, 0, 0),
            (0.0, 16, 0),
            (1.0, 180, 0),
            (2.0, 300, 0),
            (3.0, 262, 21),
            (4.0, 205, 71),
            (5.0, 152, 122),
            (6.0, 96, 178),
            (7.0, 40, 231),
            (8.0, 0, 282),
            (9.0, 0, 300),
            (20.0, 0, 300),
            (32.0, 0, 300),
        ];
        Recording {
            pipeline: "forest-tiles".to_owned(),
            first_confirm: "2026-05-04T10:00:00Z".parse().unwrap(),
            publishing: 1.9,
            bytes: 153_000_000,
            sizes: sizes.map(|(at, desired, ready)| Size { at, desired, ready }).to_vec(),
            samples: samples.map(|(at, queued, stored)| Sample { at, queued, stored }).to_vec(),
            outcome: Outcome { published: 300, stored: 300, parked: 0 },
        }
    }

    #[test]
    fn times_count_from_the_first_confirm() {
        let recording = recorded();
        assert_eq!((recording.time_to_size(), recording.time_to_ready()), (Some(1.5), Some(3.4)));
        assert_eq!((recording.time_to_first_stored(), recording.time_to_stored()), (Some(3.0), Some(9.0)));
        assert_eq!(recording.time_to_zero(), Some(30.0));
        assert_eq!(recording.images_per_second().map(f64::round), Some(33.0));
        assert_eq!((recording.largest(), recording.steps()), (6, vec![0, 6, 0]));
    }

    #[test]
    fn the_largest_size_counts_whatever_it_is() {
        let mut recording = recorded();
        recording.sizes = [(-4.0, 0, 0), (1.0, 4, 0), (3.0, 5, 4), (4.0, 5, 5), (30.0, 0, 5)]
            .map(|(at, desired, ready)| Size { at, desired, ready })
            .to_vec();
        assert_eq!((recording.time_to_size(), recording.time_to_ready()), (Some(3.0), Some(4.0)));
        assert_eq!((recording.largest(), recording.time_to_zero()), (5, Some(30.0)));
    }

    #[test]
    fn what_did_not_happen_has_no_time() {
        let mut recording = recorded();
        recording.sizes.retain(|size| size.desired == 0 && size.ready == 0);
        recording.samples.retain(|sample| sample.stored == 0);
        assert_eq!((recording.time_to_size(), recording.time_to_ready()), (None, None));
        assert_eq!((recording.time_to_first_stored(), recording.time_to_stored()), (None, None));
        assert_eq!((recording.time_to_zero(), recording.images_per_second()), (None, None));
    }

    #[test]
    fn an_image_is_lost_that_is_neither_stored_nor_parked() {
        let outcome = Outcome { published: 300, stored: 297, parked: 2 };
        assert_eq!(outcome.to_string(), "published 300, stored 297, parked 2, lost 1");
        assert_eq!(Outcome { published: 3, stored: 3, parked: 1 }.lost(), 0);
    }
}
