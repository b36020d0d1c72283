// Package ui draws governor's loops on a terminal: govtop's live screen and the plain table of govtop --once.
//
// The screen shows, it does not think. Everything on it is a view of what a governor's API says about itself; the
// package computes no control quantity, and learns of the network only through Source.
//
//	Source ──stream──► feed ──batches──► Model ──View──► header     who answers, who leads, what it depends on
//	 (I/O, in           (a frame's        │               overview   one line a loop, with its sparkline
//	  commands)          worth each)      │               detail     why the selected loop does what it does
//	                                      │               decisions  what governor decided and what people ordered
//	                                      │               health     the daemon, its servers, its writes
//	                                      └─ keys ◄────── footer     the key map, which is also the help screen
//
// What the daemon says about a loop passes through fact: a label and short items, the most telling first, which are laid
// out last, when it is known how much room there is. A chart goes the same way: samples and a span of time, drawn onto a
// canvas of cells that knows three ways to make a dot.
//
// Model is the only Bubble Tea model; header, overview and detail are plain values that it asks for lines. Time comes
// with messages, so a frame is a function of the messages before it, and the same data draws the same frame: the
// renderer then writes nothing, and an idle govtop costs nothing. What a frame says about time is either the daemon's
// own clock (how long a loop has held) or appears only while no data comes (how old the data is). A connection that
// ends is the Model's to make again, which shows when it will; the stream's sequence numbers make up for the gap.
//
// Strings in the data come from elsewhere: service names, errors of other servers. They are stripped of control
// characters at the door, once, by clean.
package ui
