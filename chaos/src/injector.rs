//! Carries out the plan on the running cluster, and notes what it did and when.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use minisr_cluster::{BrokerState, Cluster};

use crate::availability::FaultWindow;
use crate::history::Slot;
use crate::observer::{Observer, View};
use crate::plan::{FaultKind, Plan, PlannedFault, Role};
use crate::recorder::Recorder;

/// How long a restarted cluster may take until every in-sync set is full.
pub const WHOLE_BOUND: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);

/// What was done in all.
#[derive(Debug, Default)]
pub struct Injected {
    /// One for each fault.
    pub windows: Vec<FaultWindow>,
    /// How often, by kind and role.
    pub counts: BTreeMap<String, u32>,
}

/// Hurts a cluster.
#[derive(Debug)]
pub struct Injector<'a> {
    cluster: &'a Cluster,
    observer: &'a Observer,
    recorder: &'a Arc<Recorder>,
}

/// When to stop injecting.
#[derive(Debug, Clone, Copy)]
pub struct Until {
    /// No fault begins after this.
    pub deadline: Instant,
    /// Nor are there more than this many.
    pub faults_max: u32,
}

impl<'a> Injector<'a> {
    /// An injector for this cluster.
    pub fn new(cluster: &'a Cluster, observer: &'a Observer, recorder: &'a Arc<Recorder>) -> Self {
        Self { cluster, observer, recorder }
    }

    /// Injects fault after fault, each lifted before the next begins.
    pub async fn run(&self, plan: Plan, until: Until, injected: &mut Injected) -> anyhow::Result<()> {
        for fault in plan {
            if fault.patient {
                // A cluster that does not become whole is judged by the next faults and at the end, not here.
                self.whole(until.deadline.saturating_duration_since(Instant::now())).await?;
            }
            tokio::time::sleep(fault.steady).await;
            if Instant::now() >= until.deadline || fault.number > until.faults_max {
                break;
            }
            self.inject(&fault, injected).await?;
        }
        Ok(())
    }

    async fn inject(&self, fault: &PlannedFault, injected: &mut Injected) -> anyhow::Result<()> {
        self.nobody_died()?;
        let view = self.observer.view(self.cluster).await.unwrap_or_default();
        let up = self.up();
        let Some(victims) = choose(fault, &view, &up) else { return Ok(()) };
        let led = |slot: &usize| view.partitions[*slot].leader.is_some_and(|leader| victims.contains(&leader));
        let led: Vec<Slot> = (0..view.partitions.len()).filter(led).map(|slot| slot as Slot).collect();
        let alone = victims.len() == 1
            && up.len() == self.cluster.ids().count()
            && view.answered == up.len()
            && view.not_whole.is_empty();
        // Of a cluster that is not whole a copy may be the only one.
        let kind = if fault.kind == FaultKind::Wipe && !alone { FaultKind::Kill } else { fault.kind };
        let number = Some(fault.number);
        let mut at_us = u64::MAX;
        for victim in &victims {
            let detail = format!(
                "as {}{}{}",
                fault.role,
                if view.controller == Some(*victim) && fault.role != Role::Controller {
                    " (also controller)"
                } else {
                    ""
                },
                if alone { "" } else { " (cluster not whole)" }
            );
            let name = match kind {
                FaultKind::Wipe => "wipe",
                FaultKind::Kill => "kill",
                FaultKind::Pause => "pause",
                FaultKind::Stop => "stop",
            };
            at_us = at_us.min(self.recorder.event(name, number, Some(*victim), None, detail));
            match kind {
                FaultKind::Kill | FaultKind::Wipe => self.cluster.kill(*victim)?,
                FaultKind::Pause => self.cluster.pause(*victim).await?,
                FaultKind::Stop => self.cluster.stop(*victim).await?,
            }
        }
        *injected.counts.entry(format!("{kind} {}", fault.role)).or_default() += 1;
        tokio::time::sleep(fault.lasts).await;
        if kind == FaultKind::Wipe {
            self.cluster.wipe(victims[0])?;
        }
        let lifted_us = self.recorder.now_us();
        for victim in &victims {
            self.lift(fault, *victim).await?;
        }
        injected.windows.push(FaultWindow {
            number: fault.number,
            kind,
            controller: view.controller.is_some_and(|controller| victims.contains(&controller)),
            at_us,
            lifted_us,
            led,
            alone,
            victims: victims.clone(),
        });
        if fault.kind != FaultKind::Pause {
            for victim in victims {
                self.cluster.wait_ready(victim).await?;
                self.recorder.event("ready", number, Some(victim), None, "registered and unfenced again");
            }
        }
        Ok(())
    }

    async fn lift(&self, fault: &PlannedFault, victim: i32) -> anyhow::Result<()> {
        if fault.kind == FaultKind::Pause {
            self.recorder.event("resume", Some(fault.number), Some(victim), None, "");
            self.cluster.resume(victim)?;
        } else {
            self.recorder.event("start", Some(fault.number), Some(victim), None, "");
            self.cluster.start_broker(victim).await?;
        }
        Ok(())
    }

    /// Brings up whatever is down, at the end of a run.
    pub async fn heal(&self) -> anyhow::Result<()> {
        self.nobody_died()?;
        for id in self.cluster.ids() {
            match self.cluster.state(id)? {
                BrokerState::Running => {}
                BrokerState::Paused => self.cluster.resume(id)?,
                BrokerState::Killed | BrokerState::Stopped | BrokerState::Died => self.cluster.start_broker(id).await?,
            }
        }
        for id in self.cluster.ids() {
            self.cluster.wait_ready(id).await?;
        }
        Ok(())
    }

    /// Waits until every broker answers and sees every in-sync set full; `false` when the bound passes first.
    pub async fn whole(&self, bound: Duration) -> anyhow::Result<bool> {
        let deadline = Instant::now() + bound.min(WHOLE_BOUND);
        loop {
            self.nobody_died()?;
            if let Ok(view) = self.observer.view(self.cluster).await
                && view.answered == self.cluster.ids().count()
                && view.not_whole.is_empty()
            {
                self.recorder.event("whole", None, None, None, "every replica of every partition is in sync");
                return Ok(true);
            }
            if Instant::now() >= deadline {
                return Ok(false);
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// A broker that ends without having been told to is an anomaly of its own kind.
    fn nobody_died(&self) -> anyhow::Result<()> {
        for id in self.cluster.ids() {
            if self.cluster.state(id)? == BrokerState::Died {
                return Err(BrokerDied { id, log: self.cluster.log_path(id).display().to_string() }.into());
            }
        }
        Ok(())
    }

    fn up(&self) -> Vec<i32> {
        let running = |id: &i32| self.cluster.state(*id).is_ok_and(|state| state == BrokerState::Running);
        self.cluster.ids().filter(running).collect()
    }
}

/// A broker ended by itself: it crashed.
#[derive(Debug)]
pub struct BrokerDied {
    /// Which.
    pub id: i32,
    /// Where it says why.
    pub log: String,
}

impl std::fmt::Display for BrokerDied {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "broker {} ended by itself (log: {})", self.id, self.log)
    }
}

impl std::error::Error for BrokerDied {}

/// The victims of a fault, the one with the role first. `None` when nobody is up.
fn choose(fault: &PlannedFault, view: &View, up: &[i32]) -> Option<Vec<i32>> {
    let pick = |from: &[i32]| from.get((fault.lot % from.len().max(1) as u64) as usize).copied();
    let partition = pick_partition(fault, view);
    let first = match fault.role {
        Role::Leader => partition.and_then(|partition| partition.leader).filter(|id| up.contains(id)),
        Role::Controller => view.controller.filter(|id| up.contains(id)),
        Role::Follower => partition.and_then(|partition| {
            let follower = |id: &i32| Some(*id) != partition.leader && up.contains(id);
            let followers: Vec<i32> = partition.replicas.iter().copied().filter(follower).collect();
            let quiet: Vec<i32> = followers.iter().copied().filter(|id| Some(*id) != view.controller).collect();
            pick(&quiet).or_else(|| pick(&followers))
        }),
    };
    let first = first.or_else(|| pick(up))?;
    let rest: Vec<i32> = up.iter().copied().filter(|id| *id != first).collect();
    let start = (fault.lot >> 32) as usize;
    let others = (0..fault.others.min(rest.len())).map(|index| rest[(start + index) % rest.len()]);
    Some(std::iter::once(first).chain(others).collect())
}

fn pick_partition<'a>(fault: &PlannedFault, view: &'a View) -> Option<&'a crate::observer::Partition> {
    let count = view.partitions.len().max(1);
    view.partitions.get((fault.lot >> 16) as usize % count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observer::Partition;

    fn view() -> View {
        let (replicas, isr) = (vec![2, 3, 1], vec![1, 2, 3]);
        let partition = Partition { leader: Some(2), leader_epoch: 1, replicas, isr, report: None };
        View { partitions: vec![partition], controller: Some(3), answered: 3, not_whole: Vec::new() }
    }

    fn fault(role: Role, others: usize) -> PlannedFault {
        PlannedFault { role, others, ..Plan::new(1, &[FaultKind::Kill], 1).next().unwrap() }
    }

    #[test]
    fn injector_victims_have_the_role() {
        assert_eq!(choose(&fault(Role::Leader, 0), &view(), &[1, 2, 3]), Some(vec![2]));
        assert_eq!(choose(&fault(Role::Controller, 0), &view(), &[1, 2, 3]), Some(vec![3]));
        assert_eq!(choose(&fault(Role::Follower, 0), &view(), &[1, 2, 3]), Some(vec![1]), "not the controller");
    }

    #[test]
    fn injector_several_victims_are_distinct() {
        let mut victims = choose(&fault(Role::Leader, 2), &view(), &[1, 2, 3]).unwrap();
        victims.sort_unstable();
        assert_eq!(victims, [1, 2, 3]);
    }

    #[test]
    fn injector_without_a_view_still_hits_somebody_who_is_up() {
        let victims = choose(&fault(Role::Leader, 0), &View::default(), &[1, 3]).unwrap();
        assert!(victims.len() == 1 && [1, 3].contains(&victims[0]));
        assert_eq!(choose(&fault(Role::Leader, 0), &View::default(), &[]), None);
    }
}
