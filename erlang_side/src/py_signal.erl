%% @doc Signals to processes of the operating system. Erlang sends none, and a program that is
%% started for each would be missing just when the node may open no more files or ports. So a shell
%% waits for orders, from the start: `kill' is part of it, and needs nothing new.
%%
%% It outlives the node, and then kills what it was given for that: children of Python code, for which the kernel
%% does nothing.
%%
%% It belongs to the process that calls this, which traps exits.
%% @hidden
-module(py_signal).

-export([open/0, send/3, bequeath/2]).
-export_type([answer/0, shell/0, target/0]).

-record(shell, {
    port = none :: port() | none,
    %% The process groups that end with the node.
    groups = [] :: [pos_integer()]
}).
-opaque shell() :: #shell{}.
-type target() :: pos_integer() | {group, pos_integer()}.
-type answer() :: ok | failed | unknown.
%% `unknown' if there is no shell to ask.

%% Signals to all of a terminal or a service are not for it. It ends with the end of its input: when
%% the node, of which its parent is a part, has ended, or only the process that opened it.
-define(SCRIPT,
    %% Of an answer that nobody takes any more a shell would complain on the node's terminal.
    "exec 2>/dev/null; trap '' HUP INT QUIT TERM TSTP; "
    "while read -r what rest; do case $what in "
    "last) last=$rest;; "
    "*) kill $what $rest && echo ok || echo failed;; "
    "esac; done; "
    "[ -z \"$last\" ] || { "
    "sleep 1; parent=$PPID; "
    %% A parent that has ended, and that nobody has waited for, still has its number.
    "while read -r key value; do case $key in PPid:) parent=$value;; esac; done </proc/$$/status; "
    "[ $parent = $PPID ] && kill -0 $PPID || kill -9 $last; "
    "}"
).

%% The longest wait for an answer. A larger number delays whoever sends while the machine is
%% overloaded, a smaller one takes a shell that is slow for one that is gone.
-define(ANSWER_MS, 1000).

%% @doc Starts the shell, if the node can.
-spec open() -> shell().
open() ->
    open([]).

open(Groups) ->
    try open_port({spawn_executable, "/bin/sh"}, [{args, ["-c", ?SCRIPT]}, {line, 80}, binary, hide]) of
        Port -> bequeath(Groups, #shell{port = Port})
    catch
        error:_ -> #shell{groups = Groups}
    end.

%% @doc These process groups are killed when the node has ended, and no others.
-spec bequeath([pos_integer()], shell()) -> shell().
bequeath(Same, Shell = #shell{groups = Same}) ->
    Shell;
bequeath(Groups, Shell = #shell{port = Port}) ->
    _ = Port =:= none orelse command(Port, ["last", [[" ", target({group, Pid})] || Pid <- Groups], "\n"]),
    Shell#shell{groups = Groups}.

%% @doc Sends a signal; 0 asks whether there is such a process. The next call needs the shell that
%% is returned: one that has ended is started again.
-spec send(non_neg_integer(), [target(), ...], shell()) -> {answer(), shell()}.
send(Signal, Targets, Shell) ->
    Order = ["-", integer_to_list(Signal), [[" ", target(Target)] || Target <- Targets], "\n"],
    case order(Order, Shell) of
        unknown ->
            New = open(Shell#shell.groups),
            {order(Order, New), New};
        Answer ->
            {Answer, Shell}
    end.

target({group, Pid}) -> ["-", integer_to_list(Pid)];
target(Pid) -> integer_to_list(Pid).

order(_Order, #shell{port = none}) ->
    unknown;
order(Order, #shell{port = Port}) ->
    case command(Port, Order) of
        true -> answer(Port);
        false -> unknown
    end.

command(Port, Order) ->
    try
        port_command(Port, Order)
    catch
        error:badarg -> false
    end.

answer(Port) ->
    receive
        {Port, {data, {eol, <<"ok">>}}} -> ok;
        {Port, {data, {eol, <<"failed">>}}} -> failed;
        {'EXIT', Port, _} -> unknown
    after ?ANSWER_MS ->
        %% What it answers later is for no order.
        try port_close(Port) of
            true -> unknown
        catch
            error:badarg -> unknown
        end
    end.
