// Package control is the pure core of governor: from a Measurement to a Decision, by arithmetic alone. It has no clock,
// no goroutine and no I/O; time comes in as an argument, so that a year of operation can be simulated in a second and a
// decision replayed exactly.
//
// One step of one knob runs straight through:
//
//	Measurement → data gate → setpoint → overload gate → law (PID or AIMD) → deadband → slew → clamp → Decision
//
// Three rules decide every doubt. Unknown never loosens: a missing signal holds the loop or lets it tighten, and no data
// is never zero. The controller tracks the value really in force: a failed write, a clamp or an operator cannot wind it
// up. A decision carries every term, and explains itself in one line.
package control
