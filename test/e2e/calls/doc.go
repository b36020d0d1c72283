// Package calls holds the end-to-end tests of the way out: services that call each other as real processes over loopback,
// each once with all of guard's patterns on its calls and once as most services are written, with a timeout and three
// attempts. Both have a guard on the way in.
package calls
