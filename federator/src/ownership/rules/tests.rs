//! Tables: what each agent does in each situation, and how time moves them.

use super::*;
use model::seat::Owner;

const TIMING: Timing = Timing {
    deputy_after: Duration::from_secs(30),
    resign_after: Duration::from_secs(60),
    hand_back_after: Duration::from_secs(120),
};

/// One agent, and what it knows.
struct Bed {
    rules: Rules,
    role: Role,
    start: Instant,
    now: Instant,
    owns: bool,
    seats: Seats,
    frozen: bool,
    said: bool,
    removed: bool,
    sight: Sight,
}

impl Bed {
    fn of(role: Role) -> Self {
        let now = Instant::now();
        Self {
            rules: Rules::new(TIMING, 0),
            role,
            start: now,
            now,
            owns: false,
            seats: Seats::default(),
            frozen: false,
            said: true,
            removed: false,
            sight: Sight::None,
        }
    }

    fn owned_by(mut self, role: Role, flaps: u32) -> Self {
        let owner = Owner { agent: "other".to_owned(), role, flaps, ..Owner::default() };
        self.seats.owner = Some((owner, 1));
        self
    }

    fn owning(mut self, flaps: u32) -> Self {
        let owner = Owner { agent: "me".to_owned(), role: self.role, flaps, ..Owner::default() };
        self.seats.owner = Some((owner, 1));
        (self.owns, self.sight) = (true, Sight::Clear);
        self
    }

    fn beside(mut self, agent: &str, role: Role, qualified: bool) -> Self {
        self.seats.candidates.insert(agent.into(), Candidate { role, qualified, lease: 7 });
        self
    }

    /// What it does, as a word each for looking, standing and acting, so many seconds after the beginning; and when it
    /// asks again, in seconds after the beginning.
    fn at(&mut self, seconds: u64) -> String {
        self.now = self.start + Duration::from_secs(seconds);
        let decision = self.rules.decide(&Situation {
            now: self.now,
            role: self.role,
            agent: "me",
            owns: self.owns,
            seats: Some(&self.seats),
            frozen: self.frozen,
            said: self.said,
            removed: self.removed,
            sight: self.sight,
        });
        let look = if decision.look { "looks" } else { "rests" };
        let stand = match decision.stand {
            None => "",
            Some(false) => " stands",
            Some(true) => " qualified",
        };
        let act = match decision.act {
            Act::Wait => String::new(),
            Act::Take => " takes".to_owned(),
            Act::Keep => " keeps".to_owned(),
            Act::HandTo(agent, _) => format!(" hands to {agent}"),
        };
        let again = decision.again.map(|at| format!(" until {}", (at - self.start).as_secs())).unwrap_or_default();
        format!("{look}{stand}{act}{again}")
    }
}

#[test]
fn whose_it_is_looks_and_takes_it_as_soon_as_it_sees_it() {
    let mut bed = Bed::of(Role::Home);
    assert_eq!(bed.at(0), "looks");
    bed.sight = Sight::Clear;
    assert_eq!(bed.at(1), "looks takes");
    bed.sight = Sight::Blind(bed.now);
    assert_eq!(bed.at(2), "looks");
}

#[test]
fn a_second_agent_of_the_same_cluster_rests_while_the_first_sees() {
    let mut bed = Bed::of(Role::Home).owned_by(Role::Home, 0);
    assert_eq!(bed.at(0), "rests");
    bed.frozen = true;
    assert_eq!(bed.at(10), "rests");
    assert_eq!(bed.at(70), "looks stands");
    bed.sight = Sight::Clear;
    assert_eq!(bed.at(71), "looks qualified");
    bed.seats.owner = None;
    assert_eq!(bed.at(72), "looks takes");
}

#[test]
fn a_deputy_waits_before_it_looks_and_takes_what_nobody_else_wants() {
    let mut bed = Bed::of(Role::Deputy);
    assert_eq!(bed.at(0), "rests until 30");
    assert_eq!(bed.at(30), "looks stands");
    bed.sight = Sight::Clear;
    assert_eq!(bed.at(31), "looks qualified takes");
    // Whose it is comes first.
    let mut bed = bed.beside("home", Role::Home, true);
    assert_eq!(bed.at(32), "looks qualified");
    // A cluster that has an owner again is not looked at.
    let mut bed = bed.owned_by(Role::Home, 0);
    assert_eq!(bed.at(33), "rests");
}

#[test]
fn of_two_deputies_one_looks() {
    let mut bed = Bed::of(Role::Deputy).beside("another", Role::Deputy, false);
    assert_eq!(bed.at(0), "rests until 30");
    let mut late = Bed::of(Role::Deputy);
    assert_eq!(late.at(0), "rests until 30");
    let mut late = late.beside("another", Role::Deputy, false);
    assert_eq!(late.at(29), "rests until 59");
    // One that cannot see the cluster has had its time.
    assert_eq!(late.at(59), "looks stands");
}

#[test]
fn an_owner_that_lost_sight_hands_the_cluster_to_somebody_who_sees() {
    let mut bed = Bed::of(Role::Home).owning(0);
    assert_eq!(bed.at(0), "looks keeps");
    bed.sight = Sight::Blind(bed.now);
    assert_eq!(bed.at(100), "looks keeps");
    let mut bed = bed.beside("unsure", Role::Deputy, false);
    assert_eq!(bed.at(100), "looks keeps");
    let mut bed = bed.beside("b", Role::Deputy, true).beside("a", Role::Deputy, true);
    assert_eq!(bed.at(59), "looks keeps until 60");
    assert_eq!(bed.at(60), "looks hands to a");
    let mut bed = bed.beside("z", Role::Home, true);
    assert_eq!(bed.at(61), "looks hands to z");
}

#[test]
fn a_deputy_looks_when_the_owner_has_been_blind_for_a_while() {
    let mut bed = Bed::of(Role::Deputy).owned_by(Role::Home, 0);
    bed.frozen = true;
    assert_eq!(bed.at(0), "rests until 30");
    assert_eq!(bed.at(30), "looks stands");
    bed.sight = Sight::Clear;
    assert_eq!(bed.at(40), "looks qualified");
    bed.frozen = false;
    assert_eq!(bed.at(41), "rests");
}

#[test]
fn a_deputy_hands_back_once_home_was_steady_and_later_after_each_flap() {
    for (flaps, due) in [(0, 120), (1, 240), (3, 960), (9, 3840)] {
        let mut bed = Bed::of(Role::Deputy).owning(flaps).beside("home", Role::Home, true);
        assert_eq!(bed.at(0), format!("looks keeps until {due}"));
        assert_eq!(bed.at(due - 1), format!("looks keeps until {due}"));
        assert_eq!(bed.at(due), "looks hands to home");
    }
    // It begins anew when home is not sure.
    let mut bed = Bed::of(Role::Deputy).owning(0).beside("home", Role::Home, true);
    assert_eq!(bed.at(0), "looks keeps until 120");
    let mut bed = bed.beside("home", Role::Home, false);
    assert_eq!(bed.at(100), "looks keeps");
    let mut bed = bed.beside("home", Role::Home, true);
    assert_eq!(bed.at(110), "looks keeps until 230");
    // Of its like it wants nothing.
    let mut bed = Bed::of(Role::Deputy).owning(0).beside("another", Role::Deputy, true);
    assert_eq!(bed.at(1000), "looks keeps");
}

#[test]
fn who_looks_does_so_until_the_store_says_what_is_seen() {
    for role in [Role::Home, Role::Deputy] {
        let mut bed = Bed::of(role);
        (bed.sight, bed.said) = (Sight::Clear, false);
        bed.at(0);
        assert!(bed.at(100).starts_with("looks"));
        let mut bed = bed.owned_by(Role::Home, 0);
        assert!(bed.at(101).starts_with("looks"));
        bed.said = true;
        assert_eq!(bed.at(102), "rests");
    }
}

#[test]
fn who_looked_at_a_removed_cluster_does_so_on_until_the_store_says_what_is_seen() {
    let mut bed = Bed::of(Role::Home).owned_by(Role::Home, 0);
    (bed.removed, bed.said) = (true, false);
    assert_eq!(bed.at(0), "looks");
    bed.removed = false;
    assert_eq!(bed.at(1), "looks stands");
    bed.said = true;
    assert_eq!(bed.at(2), "rests");
}

#[test]
fn without_a_store_owners_go_on_and_nobody_takes_anything() {
    for (owns, role, expected) in [
        (true, Role::Deputy, (true, Act::Keep)),
        (false, Role::Home, (true, Act::Wait)),
        (false, Role::Deputy, (false, Act::Wait)),
    ] {
        let mut rules = Rules::new(TIMING, 0);
        let now = Instant::now();
        let at = Situation {
            now,
            role,
            agent: "me",
            owns,
            seats: None,
            frozen: false,
            said: true,
            removed: false,
            sight: Sight::Clear,
        };
        let decision = rules.decide(&at);
        assert_eq!((decision.look, decision.act), expected);
        // A removed cluster is looked at by whose it is, and owned by nobody.
        let decision = rules.decide(&Situation { removed: true, ..at });
        assert_eq!((decision.look, decision.act), (role == Role::Home, Act::Wait));
    }
}
