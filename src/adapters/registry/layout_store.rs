//! Implements the image store port for the layout; each call runs on a blocking thread. Not responsible for: the work
//! itself (see `layout`, `promote`, `collect`).

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::blocking::blocking;
use super::collect::KeepPolicy;
use super::layout::{LayoutInUse, OciLayout};
use super::{claim, staging};
use crate::domain::base::{Digest, LayerName, Platform};
use crate::domain::model::{ImageName, ImageRecord, LayerKey, Unusable};
use crate::domain::ports::{
    Claim, Found, ImageConfig, ImageSource, ImageStore, ImageStoreError, InUse, Staged, StagingFolder,
};
use crate::system::now;

impl InUse for LayoutInUse {}

impl OciLayout {
    async fn on_thread<T: Send + 'static>(&self, work: impl FnOnce(&Self) -> T + Send + 'static) -> T {
        let layout = self.clone();
        blocking(move || work(&layout)).await
    }
}

#[async_trait]
impl ImageStore for OciLayout {
    async fn find(&self, name: &str, tag: &str) -> Result<Option<Found>, ImageStoreError> {
        let (name, tag) = (name.to_owned(), tag.to_owned());
        self.on_thread(move |layout| layout.find(&name, &tag)).await
    }

    async fn record(&self, name: &str, tag: &str) -> Result<Option<ImageRecord>, ImageStoreError> {
        let (name, tag) = (name.to_owned(), tag.to_owned());
        self.on_thread(move |layout| layout.record(&name, &tag)).await
    }

    async fn built_on(
        &self,
        name: &str,
        _key: &LayerKey,
        image: &Digest,
    ) -> Result<Option<BTreeMap<LayerName, Digest>>, ImageStoreError> {
        let (name, image) = (name.to_owned(), image.clone());
        self.on_thread(move |layout| layout.built_on(&name, &image)).await
    }

    async fn unusable(&self, name: &str, key: &LayerKey) -> Result<Option<Unusable>, ImageStoreError> {
        let (name, key) = (ImageName::from(name), key.clone());
        self.on_thread(move |layout| layout.unusable(&name, &key)).await
    }

    async fn check(&self, name: &str, digest: &Digest) -> Result<(), ImageStoreError> {
        let (name, digest) = (name.to_owned(), digest.clone());
        self.on_thread(move |layout| layout.check(&name, &digest)).await
    }

    async fn point(&self, name: &str, tag: &str, key: &LayerKey) -> Result<bool, ImageStoreError> {
        let (name, tag, key) = (ImageName::from(name), tag.to_owned(), key.clone());
        self.on_thread(move |layout| layout.point(&name, &tag, &key, now())).await
    }

    async fn claim(&self, key: &LayerKey) -> Result<Option<Box<dyn Claim>>, ImageStoreError> {
        let key = key.clone();
        self.on_thread(move |layout| claim::claim(&layout.claims(), &key)).await
    }

    async fn staging(&self) -> Result<Box<dyn StagingFolder>, ImageStoreError> {
        self.on_thread(|layout| Ok(Box::new(staging::create(&layout.staging_root())?) as Box<dyn StagingFolder>)).await
    }

    fn source(&self, _name: &str, digest: &Digest) -> ImageSource {
        ImageSource::Layout { dir: self.root().to_owned(), digest: digest.clone() }
    }

    async fn config(
        &self,
        _name: &str,
        digest: &Digest,
        platform: &Platform,
    ) -> Result<Option<ImageConfig>, ImageStoreError> {
        let (digest, platform) = (digest.clone(), platform.clone());
        Ok(self.on_thread(move |layout| layout.config(&digest, &platform)).await)
    }

    async fn promote(&self, staged: &Staged) -> Result<(), ImageStoreError> {
        let staged = staged.clone();
        self.on_thread(move |layout| layout.promote(&staged, now())).await
    }

    async fn in_use(&self) -> Result<Option<Box<dyn InUse>>, ImageStoreError> {
        self.on_thread(|layout| Ok(Some(Box::new(layout.in_use()?) as Box<dyn InUse>))).await
    }

    async fn tidy(&self) -> Result<(), ImageStoreError> {
        self.on_thread(|layout| layout.collect(KeepPolicy::default()).map(drop)).await
    }

    async fn built(&self) -> Result<Vec<String>, ImageStoreError> {
        let list = self.on_thread(|layout| layout.list()).await?;
        Ok(list.into_iter().filter(|image| image.tag == "latest").map(|image| image.name).collect())
    }
}
