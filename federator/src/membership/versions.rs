//! The versions that an API server has shown, and whether it ever went back behind one. Of an API server whose
//! storage was restored from a backup, absence says nothing. Pure.

/// The versions seen so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Versions {
    highest: u64,
    went_back: bool,
}

// === impl Versions ===

impl Versions {
    /// The highest seen. What is asked for now and answered truthfully is not older.
    #[must_use]
    pub fn highest(&self) -> u64 {
        self.highest
    }

    /// Something was at this version. It may be told late, so it never means going back.
    pub fn saw(&mut self, version: u64) {
        self.highest = self.highest.max(version);
    }

    /// A fresh list was at this version, and was asked for when `floor` was the highest seen. Writes that follow a
    /// restore bring the version up again, so what was noticed once is remembered.
    pub fn answered(&mut self, floor: u64, version: u64) {
        self.went_back |= version < floor;
        self.saw(version);
    }

    /// Whether it ever went back.
    #[must_use]
    pub fn went_back(&self) -> bool {
        self.went_back
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_late_is_not_going_back_but_an_old_answer_is() {
        let mut versions = Versions::default();
        versions.saw(10);
        versions.saw(7);
        versions.answered(10, 10);
        // Asked before 12 was seen.
        let floor = versions.highest();
        versions.saw(12);
        versions.answered(floor, 11);
        assert_eq!((versions.highest(), versions.went_back()), (12, false));
        versions.answered(12, 11);
        assert!(versions.went_back());
        versions.answered(12, 40);
        assert!(versions.went_back(), "it does not become trustworthy by going on");
    }
}
