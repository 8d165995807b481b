//! `genmeta`: writes the sidecars.
