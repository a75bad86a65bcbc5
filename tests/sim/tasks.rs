//! The scheduler of a run: of the tasks that could go on, the dice say which does. tokio's own scheduler will not do,
//! for it wakes whoever waits for one thing in an order that no seed decides; here only who was woken matters. Time is
//! tokio's, paused: it moves on when nobody can.
//!
//! Tasks belong to processes, which can be paused (SIGSTOP: their timers pass, their connections fill, and nothing of
//! them runs until they are woken) and killed.

use crate::{
    dice::Dice,
    journal::{Journal, locked},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Wake, Waker},
};

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The tasks of a run. Clones share them.
#[derive(Clone)]
pub(crate) struct Tasks {
    state: Arc<Mutex<State>>,
    woken: Arc<Woken>,
    dice: Dice,
    journal: Journal,
}

/// What is stopped and killed together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Process(u64);

/// What belongs to no agent.
pub(crate) const WORLD: Process = Process(0);

#[derive(Default)]
struct State {
    tasks: BTreeMap<u64, (Process, Option<Task>)>,
    last: u64,
    paused: BTreeSet<Process>,
}

/// More steps than there is work at one time.
const MOST_STEPS: u32 = 20_000;

/// Who can go on.
#[derive(Default)]
struct Woken {
    tasks: Mutex<BTreeSet<u64>>,
    scheduler: Mutex<Option<Waker>>,
}

struct TaskWaker {
    task: u64,
    woken: Arc<Woken>,
}

// === impl Tasks ===

impl Tasks {
    pub(crate) fn new(dice: &Dice, journal: &Journal) -> Self {
        Self { state: Arc::default(), woken: Arc::default(), dice: dice.clone(), journal: journal.clone() }
    }

    /// A process without tasks yet.
    pub(crate) fn process(&self) -> Process {
        let mut state = locked(&self.state);
        state.last += 1;
        Process(state.last)
    }

    pub(crate) fn spawn(&self, process: Process, task: impl Future<Output = ()> + Send + 'static) {
        let mut state = locked(&self.state);
        state.last += 1;
        let id = state.last;
        state.tasks.insert(id, (process, Some(Box::pin(task))));
        drop(state);
        self.woken.wake(id);
    }

    pub(crate) fn pause(&self, process: Process) {
        locked(&self.state).paused.insert(process);
    }

    pub(crate) fn go_on(&self, process: Process) {
        locked(&self.state).paused.remove(&process);
        self.woken.schedule();
    }

    pub(crate) fn kill(&self, process: Process) {
        let mut state = locked(&self.state);
        state.paused.remove(&process);
        let (killed, left) = std::mem::take(&mut state.tasks).into_iter().partition(|(_, (of, _))| *of == process);
        state.tasks = left;
        drop(state);
        // What a task does when it is dropped may well come back here.
        let killed: BTreeMap<u64, (Process, Option<Task>)> = killed;
        drop(killed);
    }

    /// Runs everything until `what` is done.
    pub(crate) async fn run_until(&self, what: impl Future<Output = ()> + Send + 'static) {
        let (done, mut is_done) = tokio::sync::oneshot::channel();
        self.spawn(WORLD, async move {
            what.await;
            let _ = done.send(());
        });
        // Without tokio's budget for one poll: all steps of one time are made in one.
        let steps = std::future::poll_fn(|context| {
            *locked(&self.woken.scheduler) = Some(context.waker().clone());
            let mut steps = 0;
            while self.step() {
                steps += 1;
                if steps > MOST_STEPS {
                    self.journal.fail(format_args!("{MOST_STEPS} steps, and time does not move on"));
                    return Poll::Ready(());
                }
            }
            match is_done.try_recv() {
                Ok(()) => Poll::Ready(()),
                Err(_) => Poll::Pending,
            }
        });
        tokio::task::unconstrained(steps).await;
        locked(&self.state).tasks.clear();
    }

    /// Polls one task that can go on; false when there is none.
    fn step(&self) -> bool {
        let Some((id, mut task)) = self.next() else { return false };
        let waker = Waker::from(Arc::new(TaskWaker { task: id, woken: self.woken.clone() }));
        let polled = catch_unwind(AssertUnwindSafe(|| task.as_mut().poll(&mut Context::from_waker(&waker))));
        match polled {
            Ok(Poll::Pending) => {
                // Unless it was killed meanwhile.
                if let Some((_, slot)) = locked(&self.state).tasks.get_mut(&id) {
                    *slot = Some(task);
                }
            }
            Ok(Poll::Ready(())) => {
                locked(&self.state).tasks.remove(&id);
            }
            Err(_) => {
                self.journal.fail(format_args!("a task panicked; its message is above"));
                locked(&self.state).tasks.remove(&id);
            }
        }
        true
    }

    /// One of the tasks that can go on.
    fn next(&self) -> Option<(u64, Task)> {
        let mut state = locked(&self.state);
        let mut woken = locked(&self.woken.tasks);
        woken.retain(|id| state.tasks.contains_key(id));
        let ready: Vec<_> = woken.iter().filter(|id| !state.paused.contains(&state.tasks[id].0)).copied().collect();
        let id = *self.dice.any_of(&ready)?;
        woken.remove(&id);
        let task = state.tasks.get_mut(&id)?.1.take()?;
        Some((id, task))
    }
}

// === impl Woken ===

impl Woken {
    fn wake(&self, task: u64) {
        locked(&self.tasks).insert(task);
        self.schedule();
    }

    fn schedule(&self) {
        if let Some(scheduler) = locked(&self.scheduler).as_ref() {
            scheduler.wake_by_ref();
        }
    }
}

// === impl TaskWaker ===

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.woken.wake(self.task);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.wake(self.task);
    }
}
