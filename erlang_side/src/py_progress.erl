%% @doc What takes long says what it does: in the shell that waits for it by a line that is
%% written over, so that it leaves nothing behind.
%% @hidden
-module(py_progress).

-export([new/0, is_shown/1, show/2, clear/1]).
-export_type([progress/0]).

%% How long a group leader may take to say what it is. One that never answers holds up no start. A larger
%% number lets a start behind one wait for longer, a smaller one shows less behind a slow connection.
-define(ASK_MS, 500).

-type progress() :: {shell, Columns :: pos_integer()} | none.

%% @doc The progress that the calling process shows: none unless it runs in a shell, whose
%% group leader is a terminal that completes what one types.
-spec new() -> progress().
new() ->
    try spawn_monitor(fun tell/0) of
        {Pid, Monitor} ->
            receive
                {'DOWN', Monitor, process, Pid, {progress, Progress}} -> Progress;
                {'DOWN', Monitor, process, Pid, _} -> none
            after ?ASK_MS ->
                erlang:demonitor(Monitor, [flush]),
                exit(Pid, kill),
                none
            end
    catch
        error:system_limit -> none
    end.

-spec tell() -> no_return().
tell() ->
    exit({progress, terminal()}).

terminal() ->
    case {io:columns(), io:getopts()} of
        {{ok, Columns}, Opts} when is_list(Opts) ->
            case lists:keymember(expand_fun, 1, Opts) of
                true -> {shell, Columns};
                false -> none
            end;
        _ ->
            none
    end.

-spec is_shown(progress()) -> boolean().
is_shown(Progress) ->
    Progress =/= none.

%% @doc Shows one line in the place of the last one.
-spec show(unicode:chardata(), progress()) -> ok.
show(_Line, none) -> ok;
show(Line, {shell, Columns}) -> io:put_chars(["\r\e[K", string:slice(Line, 0, Columns - 1)]).

-spec clear(progress()) -> ok.
clear(none) -> ok;
clear({shell, _}) -> io:put_chars("\r\e[K").
