// Package configs turns governor's YAML file into a typed, complete and valid configuration, or into a list of
// everything that is wrong with it.
//
// The file is strict, because a limit that is wrong by a factor of a thousand looks like any other number: unknown and
// repeated keys are errors, shares need a percent sign, and durations need a unit. From the environment it takes only
// the variables of Consul's own tools. One run finds every problem of a file, with its position:
//
//	governor.yml:5:32: services.checkout.slo.objective: 99 has no percent sign; write 99%
//	governor.yml:6:5: services.checkout.concurency: unknown key; did you mean "concurrency"?
//
// Keys that are left out derive from the pace of the loop (control.Timing), so a whole configuration takes a few lines.
// Load is pure: it reads one file, keeps nothing and starts nothing. So a reload is a second Load, and a bad file
// leaves the configuration in force untouched. Secrets come from files (*_file) and never appear in a message.
//
// The doc comments and tags of the types in config.go are the reference: docs/config.md and docs/config.schema.json are
// generated from them by
//
//	go generate ./configs
package configs

//go:generate go -C .. run ./configs/internal/gendocs
