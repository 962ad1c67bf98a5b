// Package undo decides how a command is taken back: what is to be sent for that,
// and whether it may be.
//
//	Former, After        what stood at the paths that the command changes, when it
//	of the command       was first sent and when it had ended
//	        │
//	        ├── inverse: the same command with the former values as parameters, or
//	        │            a change of the desired state
//	        └── guard:   is what is reported now still the command's own doing?
//
// A value is the command's own when it is what the command asked for; or when the
// report that brought it names the command; or when it stands as it did when the
// command had ended, and no other command is named. What is not its own was done by
// somebody else, whose work is not taken back unasked.
//
// The package is pure. The engine asks it within the turn that makes the inverse, so
// that nothing changes between the look and the act.
package undo
