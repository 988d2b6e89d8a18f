//! Properties and pictures of the graph.
