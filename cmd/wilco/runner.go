package main

import "github.com/wilco-iot/wilco/internal/cli"

// runner is what runs in this process.
var runner = cli.Runner{}
