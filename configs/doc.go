// Package configs turns governor's YAML file into typed, complete and valid configuration, or into a list of everything
// that is wrong with it.
//
// The file is strict, because a limit that is wrong by a factor of a thousand looks like any other number: unknown and
// repeated keys are errors, shares need a percent sign, durations need a unit, and nothing is taken from the
// environment but what Consul's own tools take from it. Every problem of a file is found in one run and has a position:
//
//	governor.yml:5:32: services.checkout.slo.objective: 99 has no percent sign; write 99%
//	governor.yml:6:5: services.checkout.concurency: unknown key; did you mean "concurrency"?
//
// What is left out derives from the pace of the loop (control.Timing), so that four lines are a whole configuration.
// Load is pure: it reads one file, keeps nothing and starts nothing, so that a reload is a second Load, and a bad file
// leaves the configuration in force untouched. Secrets come from files (*_file) and are never part of a message.
//
// The doc comments and tags of the types in config.go are the reference: docs/config.md and docs/config.schema.json are
// generated from them by
//
//	go generate ./configs
package configs

//go:generate go -C .. run ./configs/internal/gendocs
