// Package bounds checks the bounds that the simulator states for scenarios of several services against a linear program
// solver. The simulator has a formula that is exact where one service decides; this module solves the program itself, by
// the simplex method. It is a module of its own because only it needs gonum.
package bounds
