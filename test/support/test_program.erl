%% @doc Runs other programs for the suites.
-module(test_program).

-export([run/3, root/0]).
-export_type([options/0]).

-type options() :: #{
    cd => file:filename(),
    env => [{string(), string() | false}],
    %% What to type once the program has printed all of these, in any order.
    type => {AfterPrinted :: [string()], iodata()}
}.

%% @doc The folder of the project. The suites run from a copy under _build, so it is somewhere above.
-spec root() -> file:filename().
root() ->
    root(filename:dirname(code:which(?MODULE))).

root(Dir) ->
    case filelib:is_regular(filename:join(Dir, "rebar.config")) of
        true -> Dir;
        false -> root(filename:dirname(Dir))
    end.

%% @doc Runs a program to its end and gives its exit status and what it printed, to
%% standard error as well. Without `type' it has no standard input.
-spec run(Program :: string(), Arguments :: [string()], options()) ->
    {Status :: non_neg_integer(), Output :: binary()}.
run(Program, Arguments, Options) ->
    Type = maps:get(type, Options, none),
    Redirect =
        case Type of
            none -> "exec \"$@\" </dev/null";
            _ -> "exec \"$@\""
        end,
    Port = open_port({spawn_executable, "/bin/sh"}, [
        {args, ["-c", Redirect, "sh", Program | Arguments]},
        {cd, maps:get(cd, Options, ".")},
        {env, maps:get(env, Options, [])},
        binary,
        exit_status,
        stderr_to_stdout
    ]),
    collect(Port, Type, <<>>).

collect(Port, Type, Output) ->
    receive
        {Port, {data, Data}} ->
            Printed = <<Output/binary, Data/binary>>,
            collect(Port, typed(Port, Type, Printed), Printed);
        {Port, {exit_status, Status}} ->
            {Status, Output}
    end.

typed(_Port, none, _Printed) ->
    none;
typed(Port, {Awaited, Input} = Type, Printed) ->
    case [Text || Text <- Awaited, string:find(Printed, Text) =:= nomatch] of
        [] ->
            true = port_command(Port, Input),
            none;
        _ ->
            Type
    end.
