//! Owns one command's resources: configuration, store, images and provider (each opened once, on first use), and the
//! async runtime. Not responsible for: what is done with them.

use std::cell::{OnceCell, RefCell};
use std::convert::identity;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;

use tokio::runtime::{Builder, Runtime};

use super::Error;
use super::config::Config;
use super::images;
use super::project::Project;
use super::runners::provider_context::ProviderContext;
use super::runners::stand_in;
use crate::adapters::store::Store;
use crate::domain::ports::ImageStore;

/// Runtime threads. Builds are separate processes; work here is mostly waiting and forwarding.
const WORKERS: usize = 2;

/// A command's session.
pub struct Session {
    config: Config,
    runtime: RefCell<Option<Rc<Runtime>>>,
    store: OnceCell<Store>,
    history: OnceCell<Option<Store>>,
    images: OnceCell<Arc<dyn ImageStore>>,
    provider: OnceCell<ProviderContext>,
}

impl Session {
    /// A session with nothing opened yet. The project's state is settled: from now on it may be used.
    pub fn new(config: Config) -> Result<Self, Error> {
        config.project.settle()?;
        let (store, history) = (OnceCell::new(), OnceCell::new());
        let (images, provider, runtime) = (OnceCell::new(), OnceCell::new(), RefCell::default());
        Ok(Self { config, runtime, store, history, images, provider })
    }

    /// The session of a command that builds, or plans to. Where nobody named a provider and this machine cannot build as
    /// it is, one that has something to offer stands in for it, and that is said.
    pub fn building(config: Config) -> Result<Self, Error> {
        let (session, stands_in) = Self::stood_in_for(config)?;
        if let Some(stands_in) = stands_in {
            tracing::warn!("{stands_in}");
        }
        Ok(session)
    }

    /// The session of a command that looks at the same runners.
    pub fn renting(config: Config) -> Result<Self, Error> {
        Ok(Self::stood_in_for(config)?.0)
    }

    /// A session, and who stands in for this machine.
    fn stood_in_for(config: Config) -> Result<(Self, Option<String>), Error> {
        let mut session = Self::new(config)?;
        let Some(why) = stand_in::needed(&session.config) else { return Ok((session, None)) };
        let others: Vec<_> = stand_in::instead(&session.config).collect();
        for (flag, config) in others {
            match session.wait(ProviderContext::of(&config)).and_then(identity) {
                Ok(provider) => {
                    (session.config, session.provider) = (config, OnceCell::from(provider));
                    return Ok((session, Some(format!("{why}: it is built by `--provider {flag}` instead"))));
                }
                Err(error) => tracing::debug!("`--provider {flag}` cannot stand in: {error}"),
            }
        }
        Ok((session, None))
    }

    /// The session of a command that needs a project but no catalog.
    pub fn of_project(project: Project) -> Result<Self, Error> {
        Self::new(Config::of_project(project, None))
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The project.
    pub fn project(&self) -> &Project {
        &self.config.project
    }

    /// Blocks on a future. Must not be called from within one.
    pub fn wait<T>(&self, work: impl Future<Output = T>) -> Result<T, Error> {
        Ok(self.runtime()?.block_on(work))
    }

    fn runtime(&self) -> Result<Rc<Runtime>, Error> {
        let mut open = self.runtime.borrow_mut();
        if let Some(runtime) = &*open {
            return Ok(Rc::clone(runtime));
        }
        let runtime = Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build();
        let runtime = Rc::new(runtime.map_err(Error::machine)?);
        *open = Some(Rc::clone(&runtime));
        Ok(runtime)
    }

    /// Stops all background tasks: they must neither keep the process alive nor look like a live run. Later futures
    /// get a new runtime.
    pub fn stop_tasks(&self) {
        if let Some(runtime) = self.runtime.take().and_then(Rc::into_inner) {
            runtime.shutdown_background();
        }
    }

    /// The project's history, created if missing.
    pub fn store(&self) -> Result<&Store, Error> {
        once(&self.store, || self.project().open_store())
    }

    /// The project's history for writing; `None` if there is none yet.
    pub fn existing_store(&self) -> Result<Option<&Store>, Error> {
        match self.store.get() {
            None if !self.project().has_history()? => Ok(None),
            _ => self.store().map(Some),
        }
    }

    /// The project's history, read-only.
    pub fn history(&self) -> Result<Option<&Store>, Error> {
        Ok(once(&self.history, || Ok(self.project().read_store()?))?.as_ref())
    }

    /// The image store; a missing layout is created.
    pub fn images(&self) -> Result<&Arc<dyn ImageStore>, Error> {
        once(&self.images, || images::open(&self.config))
    }

    /// The image store; `None` if there is no layout yet.
    pub fn existing_images(&self) -> Result<Option<&Arc<dyn ImageStore>>, Error> {
        if self.images.get().is_none() {
            match images::open_existing(&self.config)? {
                Some(images) => return once(&self.images, || Ok(images)).map(Some),
                None => return Ok(None),
            }
        }
        self.images().map(Some)
    }

    /// The provider, with its offers queried.
    pub fn provider(&self) -> Result<&ProviderContext, Error> {
        once(&self.provider, || self.wait(ProviderContext::of(&self.config))?)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.stop_tasks();
    }
}

/// The cell's content; created first if empty.
fn once<T>(cell: &OnceCell<T>, make: impl FnOnce() -> Result<T, Error>) -> Result<&T, Error> {
    match cell.get() {
        Some(made) => Ok(made),
        None => {
            let made = make()?;
            Ok(cell.get_or_init(|| made))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_opened_once_and_nothing_before_it_is_needed() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = folder.path().join("state");
        let project = Project::of_folder(folder.path(), Some(&state)).expect("a project");
        let session = Session::of_project(project).expect("a session");
        assert!(session.existing_store().expect("nothing").is_none());
        assert!(session.existing_images().expect("nothing").is_none());
        assert!(!session.project().state().exists(), "looking made something");
        let (first, again) = (session.store().expect("a store"), session.store().expect("a store"));
        assert!(std::ptr::eq(first, again));
        assert!(session.existing_store().expect("a store").is_some_and(|store| std::ptr::eq(store, first)));
        assert!(std::ptr::eq(session.provider().expect("local"), session.provider().expect("local")));
        assert!(std::ptr::eq(session.images().expect("a layout"), session.images().expect("a layout")));
        let runtime =
            |session: &Session| session.wait(async { tokio::runtime::Handle::current().id() }).expect("a runtime");
        assert_eq!(runtime(&session), runtime(&session));
        let before = runtime(&session);
        session.stop_tasks();
        assert_ne!(runtime(&session), before);
    }
}
