//! A histogram of durations: fixed memory, a few nanoseconds for each value, quantiles within a sixteenth.
//!
//! Buckets are *log-linear*. Values below 16 have a bucket each; each power of two above is cut into 16 buckets of
//! equal width. A bucket that starts at `low` is thus at most `low / 16` wide, whatever the size of the values,
//! and the whole range of `u64` takes 976 buckets (7.6 KiB).

/// Each power of two is cut into `1 << PRECISION` buckets.
const PRECISION: u32 = 4;
const PARTS: usize = 1 << PRECISION;
const BUCKETS: usize = PARTS * (u64::BITS - PRECISION + 1) as usize;

/// Counts of values by size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram {
    counts: Box<[u64; BUCKETS]>,
    count: u64,
    max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: Box::new([0; BUCKETS]), count: 0, max: 0 }
    }
}

impl Histogram {
    /// An empty histogram.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts one value.
    #[inline]
    pub fn record(&mut self, value: u64) {
        self.counts[bucket_of(value)] += 1;
        self.count += 1;
        self.max = self.max.max(value);
    }

    /// Adds the counts of another histogram.
    pub fn merge(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(other.counts.iter()) {
            *count += more;
        }
        self.count += other.count;
        self.max = self.max.max(other.max);
    }

    /// How many values were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The largest value, exactly; 0 when there is none.
    #[must_use]
    pub fn max(&self) -> u64 {
        self.max
    }

    /// The smallest value that at least the fraction `q` of all values do not exceed: `quantile(0.5)` is the median.
    ///
    /// The answer is never below the exact value, and above it by at most a sixteenth of it; 0 when there is no
    /// value. A `q` outside 0 to 1 counts as the nearer of the two.
    #[must_use]
    pub fn quantile(&self, q: f64) -> u64 {
        // The cast saturates, and takes what is not a number for 0.
        let rank = ((q * self.count as f64).ceil() as u64).max(1);
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return highest_in(bucket).min(self.max);
            }
        }
        self.max
    }
}

#[inline]
fn bucket_of(value: u64) -> usize {
    if value < PARTS as u64 {
        return value as usize;
    }
    let group = value.ilog2() - PRECISION;
    // The leading bit of what is left stands for a whole group, so that groups follow each other without gaps.
    group as usize * PARTS + (value >> group) as usize
}

fn highest_in(bucket: usize) -> u64 {
    if bucket < PARTS {
        return bucket as u64;
    }
    let group = bucket / PARTS - 1;
    let low = ((bucket - group * PARTS) as u64) << group;
    low + ((1 << group) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Values of every size alike: a uniform `u64` is nearly always huge.
    fn any_size() -> impl Strategy<Value = u64> {
        (any::<u64>(), 0..u64::BITS).prop_map(|(value, shift)| value >> shift)
    }

    fn histogram_of(values: &[u64]) -> Histogram {
        let mut histogram = Histogram::new();
        values.iter().for_each(|value| histogram.record(*value));
        histogram
    }

    #[test]
    fn buckets_cover_everything_without_gaps() {
        assert_eq!(bucket_of(0), 0);
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
        assert_eq!(highest_in(BUCKETS - 1), u64::MAX);
        for bucket in 0..BUCKETS - 1 {
            assert_eq!(bucket_of(highest_in(bucket)), bucket);
            assert_eq!(bucket_of(highest_in(bucket) + 1), bucket + 1);
        }
    }

    #[test]
    fn it_is_small() {
        assert!(size_of::<Histogram>() + BUCKETS * size_of::<u64>() < 8 * 1024);
    }

    #[test]
    fn an_empty_histogram_answers_zero() {
        let histogram = Histogram::new();
        assert_eq!((histogram.count(), histogram.max(), histogram.quantile(0.5)), (0, 0, 0));
    }

    #[test]
    fn a_fraction_out_of_range_counts_as_the_nearer_end() {
        let histogram = histogram_of(&[3, 5, 9]);
        assert_eq!(histogram.quantile(-1.0), 3);
        assert_eq!(histogram.quantile(f64::NAN), 3);
        assert_eq!(histogram.quantile(7.0), 9);
    }

    proptest! {
        #[test]
        fn quantiles_are_within_a_sixteenth(mut values in prop::collection::vec(any_size(), 1..300), q in 0.0..=1.0) {
            let answer = histogram_of(&values).quantile(q);
            values.sort_unstable();
            let rank = ((q * values.len() as f64).ceil() as usize).max(1);
            let exact = values[rank - 1];
            prop_assert!(answer >= exact);
            prop_assert!(answer - exact <= exact / 16, "{answer} for {exact}");
        }

        #[test]
        fn count_and_max_are_exact(values in prop::collection::vec(any_size(), 0..100)) {
            let histogram = histogram_of(&values);
            prop_assert_eq!(histogram.count(), values.len() as u64);
            prop_assert_eq!(histogram.max(), values.iter().copied().max().unwrap_or(0));
            prop_assert_eq!(histogram.quantile(1.0), histogram.max());
        }

        #[test]
        fn merging_is_recording_both(
            left in prop::collection::vec(any_size(), 0..50),
            right in prop::collection::vec(any_size(), 0..50),
        ) {
            let mut merged = histogram_of(&left);
            merged.merge(&histogram_of(&right));
            prop_assert_eq!(merged, histogram_of(&[left, right].concat()));
        }
    }
}
