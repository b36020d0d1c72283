// Package demo plays `governor demo` as a user would, headless and over several seeds, and holds its scorecards to what
// the demo promises. It needs the machine for itself, as the end-to-end tests do: where the load generators came too
// late, the run says so itself and is repeated.
package demo
