package ownfile

import (
	"io/fs"
	"os"
)

const (
	nonBlocking = 0
	noFollow    = 0
)

func thisUser() int { return -1 }

func checkFile(string, fs.FileInfo, int) error { return nil }

func checkWay(string, int) error { return nil }

func checkWayTo(string, int, int) error { return nil }

func checkDir(string) error { return nil }

func awaitWriter(*os.File) error { return nil }
