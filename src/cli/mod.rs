//! The commands. Only here are arguments, files of settings and signals read.

pub mod grape;
