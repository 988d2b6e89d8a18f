//! What one command works with: its configuration, and the store, the images and the provider, each opened when it is first
//! needed and only once; and the runtime on which all of it waits. Not responsible for: what is done with them.

use std::cell::{OnceCell, RefCell};
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;

use tokio::runtime::{Builder, Runtime};

use super::Error;
use super::config::Config;
use super::images;
use super::project::Project;
use super::runners::provider_context::ProviderContext;
use crate::adapters::store::Store;
use crate::domain::ports::ImageStore;

/// Threads of the runtime. Builds are other processes; what there is to do here is waiting and passing on.
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
    /// A session in which nothing is opened yet.
    pub fn new(config: Config) -> Self {
        let (store, history) = (OnceCell::new(), OnceCell::new());
        let (images, provider, runtime) = (OnceCell::new(), OnceCell::new(), RefCell::default());
        Self { config, runtime, store, history, images, provider }
    }

    /// The session of a command that looks at a project, and at no catalog.
    pub fn of_project(project: Project) -> Self {
        Self::new(Config::of_project(project, None))
    }

    /// What was said.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The project.
    pub fn project(&self) -> &Project {
        &self.config.project
    }

    /// Waits for something. It must not be called by what is waited for.
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

    /// Ends whatever still runs that nobody waits for: it must neither hold the process nor look like a run that lives. What is
    /// waited for after that has a runtime of its own.
    pub fn stop_tasks(&self) {
        if let Some(runtime) = self.runtime.take().and_then(Rc::into_inner) {
            runtime.shutdown_background();
        }
    }

    /// The project's history, made where there is none.
    pub fn store(&self) -> Result<&Store, Error> {
        once(&self.store, || Ok(self.project().open_store()?))
    }

    /// The project's history, to be written; none where there is none yet, and none is made.
    pub fn existing_store(&self) -> Result<Option<&Store>, Error> {
        match self.store.get() {
            None if !self.project().has_history() => Ok(None),
            _ => self.store().map(Some),
        }
    }

    /// The project's history, to be read: makes and changes nothing.
    pub fn history(&self) -> Result<Option<&Store>, Error> {
        Ok(once(&self.history, || Ok(self.project().read_store()?))?.as_ref())
    }

    /// The images; a layout is made where there is none.
    pub fn images(&self) -> Result<&Arc<dyn ImageStore>, Error> {
        once(&self.images, || images::open(&self.config))
    }

    /// The images; none where there is no layout yet, and none is made.
    pub fn existing_images(&self) -> Result<Option<&Arc<dyn ImageStore>>, Error> {
        if self.images.get().is_none() {
            match images::open_existing(&self.config)? {
                Some(images) => return once(&self.images, || Ok(images)).map(Some),
                None => return Ok(None),
            }
        }
        self.images().map(Some)
    }

    /// The provider, asked what it offers.
    pub fn provider(&self) -> Result<&ProviderContext, Error> {
        once(&self.provider, || self.wait(ProviderContext::of(&self.config))?)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.stop_tasks();
    }
}

/// What is in the cell; made first where it is empty.
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
        let session = Session::of_project(Project::of_folder(folder.path()));
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
