//! SplitMix64: a small generator whose every seed is as good as any other.
//!
//! A counter in steps of the golden ratio, each value of it scrambled by Stafford's variant 13 of MurmurHash3's
//! finalizer (Steele, Lea, Flood: "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014). It decides
//! what a run does, so it is written out here: no release of a crate can change what a seed means.

/// The golden ratio in 64 bits, made odd.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// A sequence of numbers that follows from its seed.
#[derive(Debug, Clone)]
pub struct SplitMix64(u64);

impl SplitMix64 {
    /// The sequence of a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// The next number from 0 to `most`, `most` included.
    ///
    /// The high half of a product: as even as 64 bits allow, a bias of at most `most` in 2^64.
    pub fn up_to(&mut self, most: u64) -> u64 {
        let wide = u128::from(self.next()) * (u128::from(most) + 1);
        (wide >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_sequences() {
        // Test vectors of the reference implementation.
        let mut zero = SplitMix64::new(0);
        assert_eq!([zero.next(), zero.next()], [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4]);
        let mut other = SplitMix64::new(1_234_567);
        let first = [other.next(), other.next(), other.next()];
        assert_eq!(first, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn bounds_are_reached_and_not_passed() {
        let mut lots = SplitMix64::new(1);
        let drawn: Vec<u64> = (0..200).map(|_| lots.up_to(3)).collect();
        assert!((0..=3).all(|n| drawn.contains(&n)) && drawn.iter().all(|n| *n <= 3), "{drawn:?}");
        assert_eq!(lots.up_to(0), 0);
        lots.up_to(u64::MAX);
    }
}
