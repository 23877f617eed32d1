package shell

import (
	"mvdan.cc/sh/v3/syntax"
)

// Names that the rewriting puts into a program. They cannot be typed by accident, and are no part of the environment of
// programs.
const (
	nameVariable  = "__sh_name"  // $0
	jobsVariable  = "__sh_jobs"  // numbers of the background commands that this command is part of, innermost first
	bangVariable  = "__sh_bang"  // $!
	groupVariable = "__sh_pid_"  // with a process id: the library's own name for that background command
	beforeJob     = "__sh_job"   // runs before a background command
	afterJob      = "__sh_began" // runs after it was started
	replaceCall   = "__sh_exec"  // exec, where it may replace the process
	timeStart     = "__sh_start" // before and after a timed command
	timeStop      = "__sh_stop"
)

// rewrite changes parsed statements so that the handlers of this package see what they need. The statements are changed
// in place; the list is returned because it may have grown.
func (s *shell) rewrite(stmts []*syntax.Stmt) []*syntax.Stmt {
	for _, st := range stmts {
		rewriteParams(st)
		rewriteExec(st)
	}
	return rewriteList(stmts)
}

// rewriteParams replaces $! and $0, of which the library gives its own idea.
func rewriteParams(st *syntax.Stmt) {
	syntax.Walk(st, func(n syntax.Node) bool {
		if p, ok := n.(*syntax.ParamExp); ok && p.Param != nil {
			switch p.Param.Value {
			case "!":
				p.Param.Value, p.Short = bangVariable, false
			case "0":
				p.Param.Value, p.Short = nameVariable, false
			}
		}
		return true
	})
}

// rewriteExec renames the exec commands that run in the shell's own process. Those in subshells, pipelines, background
// commands and functions keep their name: there exec must not replace the whole shell, and the library starts a child.
func rewriteExec(st *syntax.Stmt) {
	syntax.Walk(st, func(n syntax.Node) bool {
		switch n := n.(type) {
		case *syntax.Stmt:
			return !n.Background
		case *syntax.Subshell, *syntax.CmdSubst, *syntax.ProcSubst, *syntax.FuncDecl:
			return false
		case *syntax.BinaryCmd:
			return n.Op != syntax.Pipe && n.Op != syntax.PipeAll
		case *syntax.CallExpr:
			if len(n.Args) > 1 && n.Args[0].Lit() == "exec" {
				n.Args[0] = word(replaceCall)
			}
		}
		return true
	})
}

// rewriteList rewrites the statements of one list and of all lists in them.
func rewriteList(stmts []*syntax.Stmt) []*syntax.Stmt {
	var out []*syntax.Stmt
	for _, st := range stmts {
		rewriteInside(st)
		if clause, ok := st.Cmd.(*syntax.TimeClause); ok && clause.Stmt != nil {
			st.Cmd = timed(clause)
		}
		if !st.Background {
			out = append(out, st)
			continue
		}
		out = append(out, call(beforeJob), st, call(afterJob))
	}
	return out
}

// rewriteInside rewrites the lists that a statement contains.
func rewriteInside(st *syntax.Stmt) {
	syntax.Walk(st, func(n syntax.Node) bool {
		switch n := n.(type) {
		case *syntax.Block:
			n.Stmts = rewriteList(n.Stmts)
		case *syntax.Subshell:
			n.Stmts = rewriteList(n.Stmts)
		case *syntax.CmdSubst:
			n.Stmts = rewriteList(n.Stmts)
		case *syntax.ProcSubst:
			n.Stmts = rewriteList(n.Stmts)
		case *syntax.IfClause:
			n.Cond, n.Then = rewriteList(n.Cond), rewriteList(n.Then)
			if n.Else != nil {
				rewriteInside(&syntax.Stmt{Cmd: n.Else})
			}
		case *syntax.WhileClause:
			n.Cond, n.Do = rewriteList(n.Cond), rewriteList(n.Do)
		case *syntax.ForClause:
			n.Do = rewriteList(n.Do)
		case *syntax.CaseItem:
			n.Stmts = rewriteList(n.Stmts)
		default:
			return true
		}
		return false
	})
}

// timed is a block that takes the time before and after a command and keeps its status.
func timed(clause *syntax.TimeClause) syntax.Command {
	stop := call(timeStop)
	if clause.PosixFormat {
		stop.Cmd.(*syntax.CallExpr).Args = append(stop.Cmd.(*syntax.CallExpr).Args, word("-p"))
	}
	return &syntax.Block{Stmts: []*syntax.Stmt{call(timeStart), clause.Stmt, stop}}
}

func call(name string) *syntax.Stmt {
	return &syntax.Stmt{Cmd: &syntax.CallExpr{Args: []*syntax.Word{word(name)}}}
}

// word is a word that is not expanded.
func word(text string) *syntax.Word {
	return &syntax.Word{Parts: []syntax.WordPart{&syntax.SglQuoted{Value: text}}}
}
