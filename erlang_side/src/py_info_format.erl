%% @doc The state of the pools as a table for the shell.
%% @hidden
-module(py_info_format).

-export([format/1]).

%% @doc A line for each worker of each pool in what `py:info/0' returns.
-spec format(#{atom() => py_pool:info() | {error, py_error:reason()}}) -> iolist().
format(Pools) ->
    Rows = lists:append([rows(Name, Pool) || {Name, Pool} <- lists:sort(maps:to_list(Pools))]),
    table([["pool", "worker", "python", "streams", "calls", "threads", "tasks", "remarks"] | Rows]).

rows(Name, #{workers := Workers, size := Size} = Pool) ->
    Python = maps:get(python, maps:get(python, Pool, #{}), "-"),
    Lines = [
        [Name, maps:get(pid, W, "-"), Python]
            ++ [maps:get(Key, W, "-") || Key <- [streams, calls, threads, tasks]]
            ++ [remark(W)]
     || W <- Workers
    ],
    Missing = Size - length(Workers),
    Lines ++
        [[Name, "-", Python, "-", "-", "-", "-", missing(Missing, Pool)] || Missing > 0] ++
        [[Name, "", "", "", "", "", "", restarts(Pool)] || maps:get(restarts, Pool, 0) > 0];
rows(Name, _Error) ->
    [[Name, "-", "-", "-", "-", "-", "-", "gone"]].

remark(#{error := Reason}) -> ["does not answer: ", py_error:format_error(Reason)];
remark(#{}) -> "".

missing(N, Pool) ->
    io_lib:format("~b not ready; the last one ended with ~tp", [N, maps:get(last_exit, Pool, none)]).

restarts(Pool) ->
    io_lib:format("restarted ~b times; the last one ended with ~tp", [
        maps:get(restarts, Pool), maps:get(last_exit, Pool, none)
    ]).

table(Rows) ->
    Texts = [[text(Cell) || Cell <- Row] || Row <- Rows],
    Widths = [lists:max([string:length(Cell) || Cell <- Column]) || Column <- columns(Texts)],
    [
        [
            string:trim(
                lists:join("  ", [string:pad(Cell, Width) || {Cell, Width} <- lists:zip(Row, Widths)]),
                trailing
            ),
            $\n
        ]
     || Row <- Texts
    ].

columns([[] | _]) -> [];
columns(Rows) -> [[hd(Row) || Row <- Rows] | columns([tl(Row) || Row <- Rows])].

text(Cell) when is_list(Cell); is_binary(Cell) -> unicode:characters_to_list(Cell);
text(Cell) -> lists:flatten(io_lib:format("~tp", [Cell])).
