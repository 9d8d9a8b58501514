%% @doc Runs other programs for the suites.
-module(program).

-export([run/3]).
-export_type([options/0]).

-type options() :: #{
    cd => file:filename(),
    env => [{string(), string() | false}],
    input => file:filename()
}.

%% @doc Runs a program to its end and gives its exit status and what it printed, to
%% standard error as well. `input' names a file for its standard input; without it there is none.
-spec run(Program :: string(), Arguments :: [string()], options()) ->
    {Status :: non_neg_integer(), Output :: binary()}.
run(Program, Arguments, Options) ->
    Input = maps:get(input, Options, "/dev/null"),
    Port = open_port({spawn_executable, "/bin/sh"}, [
        {args, ["-c", "input=$1; shift; exec \"$@\" <\"$input\"", "sh", Input, Program | Arguments]},
        {cd, maps:get(cd, Options, ".")},
        {env, maps:get(env, Options, [])},
        binary,
        exit_status,
        stderr_to_stdout
    ]),
    collect(Port, []).

collect(Port, Output) ->
    receive
        {Port, {data, Data}} -> collect(Port, [Output | Data]);
        {Port, {exit_status, Status}} -> {Status, iolist_to_binary(Output)}
    end.
