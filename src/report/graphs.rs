//! A plan as a graph, for Graphviz and Mermaid. Not responsible for: layout.

use std::fmt::Write as _;

use crate::domain::model::{Action, Plan};

/// Graphviz DOT: an edge from each parent to its children; layers to build are bold.
pub fn dot(plan: &Plan) -> String {
    let mut text = String::from("digraph catalog {\n  rankdir = LR;\n  node [shape = box];\n");
    for step in &plan.steps {
        let style = if step.action == Action::Build { " [style = bold]" } else { "" };
        let _ = writeln!(text, "  \"{}\"{style};", step.layer);
    }
    for step in &plan.steps {
        for parent in &step.parents {
            let _ = writeln!(text, "  \"{parent}\" -> \"{}\";", step.layer);
        }
    }
    text.push_str("}\n");
    text
}

/// Mermaid flowchart. Nodes have generated ids, since a layer name may be a Mermaid keyword.
pub fn mermaid(plan: &Plan) -> String {
    let mut text = String::from("flowchart LR\n");
    let id =
        |layer: &crate::domain::base::LayerName| plan.steps.iter().position(|step| step.layer == *layer).unwrap_or(0);
    for (index, step) in plan.steps.iter().enumerate() {
        let _ = writeln!(text, "  n{index}[\"{}\"]", step.layer);
    }
    for (index, step) in plan.steps.iter().enumerate() {
        for parent in &step.parents {
            let _ = writeln!(text, "  n{} --> n{index}", id(parent));
        }
    }
    let built: Vec<String> = plan
        .steps
        .iter()
        .enumerate()
        .filter(|(_, step)| step.action == Action::Build)
        .map(|(index, _)| format!("n{index}"))
        .collect();
    if !built.is_empty() {
        let _ = writeln!(text, "  classDef build stroke-width:3px\n  class {} build", built.join(","));
    }
    text
}
