// Package control is the pure core of governor: it computes a Decision from a Measurement. It has no clock, no
// goroutine and no I/O. Time is an argument, so a simulation covers a year of operation in a second and replays a
// decision exactly.
//
// One step of one knob runs straight through:
//
//	Measurement → data gate → setpoint → overload gate → law (PID or AIMD) → deadband → slew → clamp → Decision
//
// Three rules settle every doubtful case. Unknown never loosens: a missing signal makes the loop hold or lets it only
// tighten, and no data never counts as zero. The controller tracks the value really in force, so a failed write, a
// clamp or an operator cannot wind it up. A decision carries every term and explains itself in one line.
package control
