%% @doc What takes long says what it does: in the shell that waits for it by a line that is
%% written over, so that it leaves nothing behind.
%% @hidden
-module(py_progress).

-export([new/0, is_shown/1, show/2, clear/1]).
-export_type([progress/0]).

-type progress() :: {shell, Columns :: pos_integer()} | none.

%% @doc The progress that the calling process shows: none unless it runs in a shell, whose
%% group leader is a terminal that completes what one types.
-spec new() -> progress().
new() ->
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
