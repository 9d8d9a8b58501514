%% @doc When a worker has done enough: its limits, each a little lower than the pool's option
%% by chance, so that workers that start together do not leave together. Nothing here sends
%% or waits.
%% @hidden
-module(py_recycling).

-export([new/1, age/1, request_done/1, is_too_large/2]).
-export_type([limits/0, why/0]).

-type why() :: max_requests | max_age | max_rss | {reload, binary()}.

%% A limit is lower than the option by up to this part of it. A larger part spreads the
%% starts better, a smaller one lets workers last longer.
-define(PART, 5).

-record(limits, {
    %% How many more requests it may do.
    requests :: non_neg_integer() | infinity,
    age :: pos_integer() | infinity,
    rss :: pos_integer() | infinity
}).
-opaque limits() :: #limits{}.

%% @doc The limits of a worker that starts now.
-spec new(py_options:pool_options()) -> limits().
new(#{max_requests := Requests, max_age := Age, max_rss := Rss}) ->
    #limits{requests = lower(Requests), age = lower(Age), rss = lower(Rss)}.

lower(infinity) -> infinity;
lower(Limit) -> Limit + 1 - rand:uniform(Limit div ?PART + 1).

%% @doc For how many milliseconds it may work.
-spec age(limits()) -> pos_integer() | infinity.
age(#limits{age = Age}) -> Age.

%% @doc It has done one more request.
-spec request_done(limits()) -> {enough | more, limits()}.
request_done(L = #limits{requests = infinity}) -> {more, L};
request_done(L = #limits{requests = Left}) when Left =< 1 -> {enough, L#limits{requests = 0}};
request_done(L = #limits{requests = Left}) -> {more, L#limits{requests = Left - 1}}.

%% @doc Whether it has more memory than it may have.
-spec is_too_large(non_neg_integer() | undefined, limits()) -> boolean().
is_too_large(Rss, #limits{rss = Limit}) -> is_integer(Rss) andalso Rss > Limit.
