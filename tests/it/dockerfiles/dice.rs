//! Chance that a seed repeats. Not responsible for: what is chosen.

/// SplitMix64. In calm files the odd words, which stand at the end of each list, are rare: else hardly any file is sound.
pub struct Dice {
    state: u64,
    pub calm: bool,
}

impl Dice {
    pub fn new(seed: u64) -> Self {
        let mut dice = Self { state: seed, calm: false };
        dice.calm = !dice.one_in(4);
        dice
    }

    pub fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit.max(1) as u64).expect("small")
    }

    pub fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    pub fn pick<'a>(&mut self, list: &[&'a str]) -> &'a str {
        let calm = self.calm && !self.one_in(12);
        list[self.below(if calm { list.len().div_ceil(3) } else { list.len() })]
    }
}
