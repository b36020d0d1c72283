// Package demo plays `governor demo` as a user would, headless and with several seeds, and checks its scorecards
// against the demo's promises. Like the end-to-end tests it needs an idle machine: if the load generators were too
// late, the run says so and is repeated.
package demo
